//! Whether a token is still valid while the response to its request is awaited or sent.

use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::notifications::Notifications;
use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use omniflow_store::Store;

/// Watches one token.
pub struct TokenGuard {
    store: Arc<dyn Store>,
    clock: Clock,
    token: Uuid,
    revoked: watch::Receiver<()>,
}

// === impl TokenGuard ===

impl TokenGuard {
    /// Notices revocations from now on. [`Self::is_valid`] covers those since the request began.
    pub fn new(store: Arc<dyn Store>, clock: Clock, notifications: &Notifications, token: Uuid) -> Self {
        Self { store, clock, token, revoked: notifications.token_revoked.subscribe() }
    }

    /// Whether the token is neither revoked nor expired.
    pub async fn is_valid(&self) -> Result<bool, Error> {
        let token = self.store.token(self.token).await?;
        Ok(token.is_some_and(|token| token.is_valid(self.clock.now())))
    }

    /// Waits until any token is revoked, perhaps this one.
    pub async fn revoked(&mut self) {
        // An error would mean that the sender is gone; it lives as long as the process.
        let _ = self.revoked.changed().await;
    }
}
