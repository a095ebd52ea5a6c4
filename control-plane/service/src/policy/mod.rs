//! The policy: routes and scopes as one document, with its versions.

mod conflicts;
pub mod diff;
pub mod document;
pub mod explain;
pub mod installation;
pub mod replay;
pub mod roll_back;
pub mod set;
mod versions;

use std::sync::Arc;

use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use omniflow_policy::key::KeyPrefix;
use tokio::sync::Mutex;

use crate::fleet::Fleet;
use crate::notifications::Notifications;
use crate::publication::NumberedPolicy;
use crate::publisher::Publisher;
use omniflow_store::Store;

/// The use cases of the policy.
pub struct Policies {
    store: Arc<dyn Store>,
    publisher: Arc<Publisher>,
    fleet: Arc<Fleet>,
    notifications: Notifications,
    clock: Clock,
    /// Held by the running replay.
    replaying: Mutex<()>,
}

// === impl Policies ===

impl Policies {
    /// The use cases over these parts.
    pub fn new(
        store: &Arc<dyn Store>,
        publisher: &Arc<Publisher>,
        fleet: &Arc<Fleet>,
        notifications: &Notifications,
        clock: &Clock,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            publisher: Arc::clone(publisher),
            fleet: Arc::clone(fleet),
            notifications: notifications.clone(),
            clock: clock.clone(),
            replaying: Mutex::new(()),
        }
    }

    /// The effective policy and its version.
    pub fn current(&self) -> Result<NumberedPolicy, Error> {
        let (policy, version) = self.publisher.publication.policy()?;
        Ok(NumberedPolicy { version, policy })
    }

    /// The prefix of all keys and tokens of this installation.
    pub fn key_prefix(&self) -> &KeyPrefix {
        &self.publisher.installation.key_prefix
    }
}
