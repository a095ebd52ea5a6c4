//! The gateways, and what each enforces.

mod list;
mod remove;

use std::sync::Arc;

pub use self::list::GatewayPage;
use super::fleet::Fleet;
use super::publisher::Publisher;
use omniflow_domain::clock::Clock;
use omniflow_domain::error::{Error, Missing};
use omniflow_store::Store;

/// Reads the state of the gateways, and removes those that have ended.
pub struct Gateways {
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    publisher: Arc<Publisher>,
    clock: Clock,
}

// === impl Gateways ===

impl Gateways {
    /// The gateways of this fleet, compared with what this publisher has published.
    pub fn new(store: Arc<dyn Store>, fleet: Arc<Fleet>, publisher: Arc<Publisher>, clock: Clock) -> Self {
        Self { store, fleet, publisher, clock }
    }
}

fn no_such_gateway() -> Error {
    Error::missing(Missing::Gateway)
}
