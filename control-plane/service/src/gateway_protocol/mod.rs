//! The gateway protocol: polls for changes, reports of enforced versions, and audit records.

mod cut_polls;
mod enforced;
mod images;
mod ingest;
mod poll;

use std::sync::Arc;

use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use omniflow_domain::gateway::GatewayId;
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::{Incarnation, MAX_VMS, VmStatus, is_gateway_name};
use uuid::Uuid;

pub use self::cut_polls::CutPollStatus;
use self::cut_polls::CutPolls;
pub use self::poll::PollAnswer;
use super::authentication::Rejection;
use super::fleet::{Fleet, VersionBounds};
use super::log_space::LogSpace;
use super::metrics::GatewayMetrics;
use super::notifications::Notifications;
use super::publisher::Publisher;
use super::vault::Vault;
use omniflow_store::Store;

/// Serves gateways.
pub struct GatewayProtocol {
    store: Arc<dyn Store>,
    publisher: Arc<Publisher>,
    fleet: Arc<Fleet>,
    vault: Arc<Vault>,
    notifications: Notifications,
    clock: Clock,
    metrics: GatewayMetrics,
    space: Arc<LogSpace>,
    cut_polls: CutPolls,
}

/// The dependencies of [`GatewayProtocol`].
pub struct ProtocolParts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Publishes what gateways poll for.
    pub publisher: Arc<Publisher>,
    /// The gateways.
    pub fleet: Arc<Fleet>,
    /// Encrypts the arguments of calls.
    pub vault: Arc<Vault>,
    /// Notifications between the components of the process.
    pub notifications: Notifications,
    /// The wall clock.
    pub clock: Clock,
    /// Measurements of the protocol.
    pub metrics: GatewayMetrics,
    /// The space of the request log.
    pub space: Arc<LogSpace>,
}

// === impl GatewayProtocol ===

impl GatewayProtocol {
    /// Serves the published changes to gateways, and stores their reports.
    pub fn new(parts: ProtocolParts) -> Self {
        let ProtocolParts { store, publisher, fleet, vault, notifications, clock, metrics, space } = parts;
        let cut_polls = CutPolls::default();
        Self { store, publisher, fleet, vault, notifications, clock, metrics, space, cut_polls }
    }

    /// Gateways whose polls are cut off by a proxy.
    pub fn cut_polls(&self) -> CutPollStatus {
        self.cut_polls.status()
    }

    /// Records that a request with an expired or unknown token was rejected: its sender may still be serving requests.
    pub fn token_rejected(&self, digest: Digest, rejection: Rejection) {
        match rejection {
            Rejection::ExpiredToken => self.fleet.token_rejected(digest, true),
            Rejection::UnknownToken => self.fleet.token_rejected(digest, false),
            Rejection::NoToken | Rejection::WrongRole => {}
        }
    }

    /// Which versions a gateway with a snapshot of this installation can enforce.
    fn bounds(&self, installation: Option<Uuid>) -> Result<VersionBounds, Error> {
        Ok(VersionBounds {
            is_own: installation == Some(self.publisher.installation.id),
            published: self.publisher.publication.version()?,
            plausible: self.publisher.highest_plausible_version(),
        })
    }

    /// Measures the enforcement of the versions that a gateway has just confirmed, from the publication of the first.
    fn observe_enforcement(&self, gateway: &str, incarnation: Incarnation) {
        let id = GatewayId { gateway: gateway.to_owned(), incarnation };
        let publication = &self.publisher.publication;
        let Ok(published) = publication.version() else { return };
        let Some((before, confirmed)) = self.fleet.advance_confirmed(&id, published) else { return };
        if let Some(at) = publication.first_published_between(before, confirmed) {
            self.metrics.observe_enforcement_delay(at.elapsed());
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if is_gateway_name(name) {
        return Ok(());
    }
    let detail = "a gateway name must be 1 to 128 printable ASCII characters without spaces";
    Err(Error::invalid_field("/gateway", detail))
}

fn check_vms(vms: &[VmStatus]) -> Result<(), Error> {
    if vms.len() <= MAX_VMS {
        return Ok(());
    }
    Err(Error::invalid_field("/vms", format!("a gateway can have at most {MAX_VMS} VMs")))
}
