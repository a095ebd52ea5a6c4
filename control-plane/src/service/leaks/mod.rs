//! Leaked secrets: found in a text, revoked at once, with an account of how their keys were used.

pub(crate) mod handle;
mod search;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::{Clock, Entropy};

use crate::service::fleet::Fleet;
use crate::service::idempotency::IdempotencyCache;
use crate::service::publisher::Publisher;
use crate::service::signals::Signals;
use omniflow_store::Store;

/// The most keys in one report: what is revoked is one change, which gateways apply as a whole.
pub(crate) const MAX_KEYS: usize = 100;

/// The use cases of leaked secrets.
pub(crate) struct Leaks {
    store: Arc<dyn Store>,
    publisher: Arc<Publisher>,
    fleet: Arc<Fleet>,
    signals: Signals,
    idempotency: Arc<IdempotencyCache>,
    rotation_after: Option<Duration>,
    clock: Clock,
    entropy: Entropy,
}

/// The parts that the use cases of leaked secrets share with others.
pub(crate) struct LeakParts<'a> {
    /// The rows.
    pub(crate) store: &'a Arc<dyn Store>,
    /// Commits changes and publishes them.
    pub(crate) publisher: &'a Arc<Publisher>,
    /// The gateways that call.
    pub(crate) fleet: &'a Arc<Fleet>,
    /// Whether the process ends.
    pub(crate) signals: &'a Signals,
    /// The results of recent attempts.
    pub(crate) idempotency: &'a Arc<IdempotencyCache>,
}

// === impl Leaks ===

impl Leaks {
    /// The use cases over these parts. Versions fall due for rotation `rotation_after` their creation.
    pub(crate) fn new(
        parts: LeakParts<'_>,
        rotation_after: Option<Duration>,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Self {
        Self {
            store: Arc::clone(parts.store),
            publisher: Arc::clone(parts.publisher),
            fleet: Arc::clone(parts.fleet),
            signals: parts.signals.clone(),
            idempotency: Arc::clone(parts.idempotency),
            rotation_after,
            clock: clock.clone(),
            entropy: entropy.clone(),
        }
    }
}
