//! What gateways call: what is new for them, what they enforce, and what they have seen.

mod enforced;
mod images;
mod ingest;
mod poll;

use std::sync::Arc;

use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use omniflow_policy::gateway::{MAX_VMS, VmStatus, is_gateway_name};

pub use self::poll::PollAnswer;
use super::fleet::Fleet;
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
}

// === impl GatewayProtocol ===

impl GatewayProtocol {
    /// Serves gateways what this publisher publishes, and stores what they report.
    pub fn new(
        store: Arc<dyn Store>,
        publisher: Arc<Publisher>,
        fleet: Arc<Fleet>,
        vault: Arc<Vault>,
        notifications: Notifications,
        clock: Clock,
    ) -> Self {
        Self { store, publisher, fleet, vault, notifications, clock }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if is_gateway_name(name) {
        return Ok(());
    }
    let detail = "a gateway's name has 1 to 128 printable ASCII characters and no spaces";
    Err(Error::invalid_field("/gateway", detail))
}

fn check_vms(vms: &[VmStatus]) -> Result<(), Error> {
    if vms.len() <= MAX_VMS {
        return Ok(());
    }
    Err(Error::invalid_field("/vms", format!("a gateway has at most {MAX_VMS} VMs")))
}
