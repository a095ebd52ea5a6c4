//! Whether the token of a request is still valid while its answer is waited for or being sent.

use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;

use super::signals::Signals;
use crate::storage::Storage;

/// Watches the token of one request.
pub(crate) struct TokenGuard {
    storage: Arc<Storage>,
    clock: Clock,
    token: Uuid,
    revoked: watch::Receiver<()>,
}

// === impl TokenGuard ===

impl TokenGuard {
    /// Watches for revocations from now on. Earlier ones, since the request began, are found by [`TokenGuard::is_valid`].
    pub(crate) fn new(
        storage: &Arc<Storage>,
        signals: &Signals,
        clock: &Clock,
        principal: &Principal,
    ) -> Self {
        Self {
            storage: Arc::clone(storage),
            clock: clock.clone(),
            token: principal.id,
            revoked: signals.token_revoked.subscribe(),
        }
    }

    /// Whether the token is neither revoked nor expired.
    pub(crate) async fn is_valid(&self) -> Result<bool, Error> {
        let token = self.storage.main.token(self.token).await?;
        Ok(token.is_some_and(|token| token.is_valid(self.clock.now())))
    }

    /// Waits until any token is revoked.
    pub(crate) async fn revoked(&mut self) {
        // An error would mean that the sender is gone; it lives as long as the process.
        let _ = self.revoked.changed().await;
    }
}
