//! The request log: all calls, newest first; gaps; statistics; and new calls as they arrive.

pub mod export;
pub mod follow;
pub mod gaps;
pub mod in_progress;
pub mod payload;
mod query_limit;
pub mod search;
mod show;
pub mod stats;
pub mod timeline;

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;

use self::query_limit::QueryLimit;
pub use self::query_limit::QueryPermit;

use super::authentication::TokenGuard;
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
    query_limit: QueryLimit,
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
        let query_limit = QueryLimit::default();
        Self { store, vault, notifications, clock, payload_retention, query_limit }
    }

    /// Waits until the principal may run another long query: statistics or a filtered list, including lists of keys. The
    /// number of concurrent queries per token is limited.
    ///
    /// # Errors
    ///
    /// `busy` if none of the token's queries ends within 10 seconds.
    pub async fn query_permit(&self, principal: &Principal) -> Result<QueryPermit, Error> {
        self.query_limit.acquire(principal.id).await
    }
    /// Watches the principal's token while a long response is sent.
    fn guard(&self, principal: &Principal) -> TokenGuard {
        TokenGuard::new(Arc::clone(&self.store), self.clock.clone(), &self.notifications, principal.id)
    }
}
