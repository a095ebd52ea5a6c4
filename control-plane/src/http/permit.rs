//! Whether the token that an answer was asked with still holds while the answer is waited for or being sent.

use omniflow_domain::principal::Principal;
use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::service::app::App;

use crate::storage::StorageError;

/// What lets an answer go on.
pub(in crate::http) struct Permit {
    app: Arc<App>,
    token: Uuid,
    revoked: watch::Receiver<()>,
}

// === impl Permit ===

impl Permit {
    /// Notices whatever is revoked from now on. What was revoked since the request began is for [`Permit::holds`] to tell.
    pub(in crate::http) fn new(app: &Arc<App>, principal: &Principal) -> Self {
        Self { app: Arc::clone(app), token: principal.id, revoked: app.signals.token_revoked.subscribe() }
    }

    /// Whether the token was neither revoked nor expired by now.
    pub(in crate::http) async fn holds(&self) -> Result<bool, StorageError> {
        let token = self.app.storage.main.token(self.token).await?;
        Ok(token.is_some_and(|token| token.is_valid(self.app.now())))
    }

    /// Waits until any token was revoked.
    pub(in crate::http) async fn challenged(&mut self) {
        // An error would mean that the sender is gone; it lives as long as the process.
        let _ = self.revoked.changed().await;
    }
}
