//! The gateways, and what each enforces.

mod list;

use std::sync::Arc;

pub use self::list::GatewayPage;
use super::fleet::Fleet;
use super::publisher::Publisher;

/// Reads the state of the gateways.
pub struct Gateways {
    fleet: Arc<Fleet>,
    publisher: Arc<Publisher>,
}

// === impl Gateways ===

impl Gateways {
    /// The gateways of this fleet, compared with what this publisher has published.
    pub fn new(fleet: Arc<Fleet>, publisher: Arc<Publisher>) -> Self {
        Self { fleet, publisher }
    }
}
