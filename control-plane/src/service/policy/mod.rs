//! The policy: routes and scopes as one document, with its versions.

mod conflicts;
pub(crate) mod diff;
pub(crate) mod document;
pub(crate) mod explain;
pub(crate) mod replay;
pub(crate) mod roll_back;
pub(crate) mod set;
mod versions;

use std::sync::Arc;

use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use tokio::sync::Mutex;

use crate::service::fleet::Fleet;
use crate::service::publication::NumberedPolicy;
use crate::service::publisher::Publisher;
use crate::service::signals::Signals;
use omniflow_store::Store;

/// The use cases of the policy.
pub(crate) struct Policies {
    store: Arc<dyn Store>,
    publisher: Arc<Publisher>,
    fleet: Arc<Fleet>,
    signals: Signals,
    clock: Clock,
    /// Held by the one replay that runs.
    pub(crate) replaying: Mutex<()>,
}

// === impl Policies ===

impl Policies {
    /// The use cases over these parts.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        publisher: &Arc<Publisher>,
        fleet: &Arc<Fleet>,
        signals: &Signals,
        clock: &Clock,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            publisher: Arc::clone(publisher),
            fleet: Arc::clone(fleet),
            signals: signals.clone(),
            clock: clock.clone(),
            replaying: Mutex::new(()),
        }
    }

    /// The policy in force and its version.
    pub(crate) fn current(&self) -> Result<NumberedPolicy, Error> {
        let (policy, version) = self.publisher.publication.policy()?;
        Ok(NumberedPolicy { version, policy })
    }
}
