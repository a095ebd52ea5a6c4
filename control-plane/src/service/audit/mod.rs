//! The request log: every call, newest first; what is missing in it; what it amounts to; and new calls as they arrive.

pub(crate) mod anomalies;
pub(crate) mod export;
pub(crate) mod filter;
pub(crate) mod follow;
pub(crate) mod gaps;
pub(crate) mod payload;
pub(crate) mod search;
mod show;
pub(crate) mod stats;
pub(crate) mod timeline;

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::Clock;

use super::signals::Signals;
use super::vault::Vault;
use omniflow_store::Store;

/// Reads the request log.
pub(crate) struct RequestLog {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    signals: Signals,
    clock: Clock,
    /// How long the arguments of calls are kept.
    payload_retention: Duration,
}

// === impl RequestLog ===

impl RequestLog {
    /// The log in this storage.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        signals: Signals,
        clock: Clock,
        payload_retention: Duration,
    ) -> Self {
        Self { store, vault, signals, clock, payload_retention }
    }
}
