//! The request log: every call, newest first; what is missing in it; what it amounts to; and new calls as they arrive.

pub mod anomalies;
pub mod export;
pub mod filter;
pub mod follow;
pub mod gaps;
pub mod payload;
pub mod search;
mod show;
pub mod stats;
pub mod timeline;

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::Clock;

use super::notifications::Notifications;
use super::vault::Vault;
use omniflow_store::Store;

/// Reads the request log.
pub struct RequestLog {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    notifications: Notifications,
    clock: Clock,
    /// How long the arguments of calls are kept.
    payload_retention: Duration,
}

// === impl RequestLog ===

impl RequestLog {
    /// The log in this storage.
    pub fn new(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        notifications: Notifications,
        clock: Clock,
        payload_retention: Duration,
    ) -> Self {
        Self { store, vault, notifications, clock, payload_retention }
    }
}
