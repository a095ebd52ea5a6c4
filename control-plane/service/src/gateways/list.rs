//! Gateways in pages.

use omniflow_domain::error::Error;
use omniflow_domain::gateway::{GatewayId, GatewayStatus};
use omniflow_domain::page::Page;

use super::Gateways;
use crate::query::PageRequest;

/// A page of gateways, and the version that all should enforce.
pub struct GatewayPage {
    /// The gateways.
    pub page: Page<GatewayStatus>,
    /// The published version.
    pub version: u64,
}

// === impl Gateways ===

impl Gateways {
    /// A page of the gateways, in the order of their identifiers.
    pub fn list(&self, page: PageRequest) -> Result<GatewayPage, Error> {
        let (limit, after) = page.read(GatewayId::parse)?;
        let version = self.publisher.publication.version()?;
        let gateways = self.fleet.status(after.as_ref(), limit + 1, version);
        Ok(GatewayPage { page: Page::of(gateways, limit, |gateway| gateway.id.to_string()), version })
    }
}
