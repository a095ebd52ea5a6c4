//! Paginated gateways.

use std::time::Duration;

use omniflow_domain::error::Error;
use omniflow_domain::gateway::{GatewayId, GatewayStatus};
use omniflow_domain::page::{Page, PageRequest};
use omniflow_policy::time::UnixMillis;

use super::{Gateways, no_such_gateway};

/// A page of gateways, and the version that all should enforce.
pub struct GatewayPage {
    /// The gateways.
    pub page: Page<GatewayStatus>,
    /// The published version.
    pub version: u64,
    /// When it was published.
    pub published_at: UnixMillis,
}

// === impl Gateways ===

impl Gateways {
    /// A page of the gateways, in the order of their identifiers.
    pub fn list(&self, page: PageRequest<GatewayId>) -> Result<GatewayPage, Error> {
        let version = self.publisher.publication.version()?;
        let gateways = self.fleet.status(page.after.as_ref(), page.limit + 1, version);
        let published_at = self.publisher.published_at();
        Ok(GatewayPage {
            page: Page::of(gateways, page.limit, |gateway| gateway.id.to_string()),
            version,
            published_at,
        })
    }

    /// A run of a gateway.
    ///
    /// # Errors
    ///
    /// `not_found` if there is no such run.
    pub fn find(&self, id: &str) -> Result<GatewayStatus, Error> {
        let id = id.parse::<GatewayId>().map_err(|_| no_such_gateway())?;
        let version = self.publisher.publication.version()?;
        let found = self.fleet.status(None, usize::MAX, version).into_iter().find(|gateway| gateway.id == id);
        found.ok_or_else(no_such_gateway)
    }

    /// How long the version `held` has been outdated; `None` if it was replaced before this process started, or long ago.
    pub fn outdated_for(&self, held: u64) -> Option<Duration> {
        self.publisher.publication.superseded_at(held).map(|at| at.elapsed())
    }
}
