//! Leaked secrets: found in a text, revoked at once, with an account of how their keys were used.

pub mod handle;
mod search;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::{Clock, Entropy};

pub use self::search::SearchTerms;
use crate::fleet::Fleet;
use crate::idempotency::IdempotencyCache;
use crate::keys::KeyParts;
use crate::notifications::Notifications;
use crate::publisher::Publisher;
use omniflow_store::Store;

/// The most keys in one report: what is revoked is one change, which gateways apply as a whole.
pub const MAX_KEYS: usize = 100;

/// The use cases of leaked secrets.
pub struct Leaks {
    store: Arc<dyn Store>,
    publisher: Arc<Publisher>,
    fleet: Arc<Fleet>,
    notifications: Notifications,
    idempotency: Arc<IdempotencyCache>,
    rotation_after: Option<Duration>,
    clock: Clock,
    entropy: Entropy,
}

// === impl Leaks ===

impl Leaks {
    /// The use cases over these parts. Versions fall due for rotation `rotation_after` their creation.
    pub fn new(
        parts: &KeyParts<'_>,
        rotation_after: Option<Duration>,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Self {
        Self {
            store: Arc::clone(parts.store),
            publisher: Arc::clone(parts.publisher),
            fleet: Arc::clone(parts.fleet),
            notifications: parts.notifications.clone(),
            idempotency: Arc::clone(parts.idempotency),
            rotation_after,
            clock: clock.clone(),
            entropy: entropy.clone(),
        }
    }
}
