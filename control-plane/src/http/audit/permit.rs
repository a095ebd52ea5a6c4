//! Whether the token that an answer was asked with still holds while the answer is being sent.

use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::app::App;
use crate::http::access::Caller;
use crate::storage::StorageError;

/// What lets an answer go on.
pub(super) struct Permit {
    app: Arc<App>,
    token: Uuid,
    revoked: watch::Receiver<()>,
}

// === impl Permit ===

impl Permit {
    pub(super) fn new(app: &Arc<App>, caller: &Caller) -> Self {
        Self { app: Arc::clone(app), token: caller.id, revoked: app.token_revoked.subscribe() }
    }

    /// Whether the token was neither revoked nor expired by now.
    pub(super) async fn holds(&self) -> Result<bool, StorageError> {
        let token = self.app.storage.main.token(self.token).await?;
        Ok(token.is_some_and(|token| token.is_valid(self.app.now())))
    }

    /// Waits until any token was revoked.
    pub(super) async fn challenged(&mut self) {
        // An error would mean that the sender is gone; it lives as long as the process.
        let _ = self.revoked.changed().await;
    }
}
