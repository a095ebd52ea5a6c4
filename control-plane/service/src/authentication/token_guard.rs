//! Whether a token is still valid: in the transaction of its request, and while the response is awaited or sent.

use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::notifications::Notifications;
use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use omniflow_policy::time::UnixMillis;
use omniflow_store::{Store, StoreError, Transaction};

/// Checks that a principal's token is neither revoked nor expired, as
/// [`insert_admin_event`](omniflow_store::AdminLogWrites::insert_admin_event) does, for effects that precede an admin
/// event or have none. Until the transaction ends, no token is revoked.
///
/// # Errors
///
/// [`StoreError::PrincipalInvalid`] if it is not valid.
pub(crate) async fn check_token(
    transaction: &mut dyn Transaction,
    token: Uuid,
    now: UnixMillis,
) -> Result<(), StoreError> {
    match transaction.token(token).await? {
        Some(token) if token.is_valid(now) => Ok(()),
        _ => Err(StoreError::PrincipalInvalid),
    }
}

/// Watches one token.
pub struct TokenGuard {
    store: Arc<dyn Store>,
    clock: Clock,
    token: Uuid,
    revoked: watch::Receiver<()>,
}

// === impl TokenGuard ===

impl TokenGuard {
    /// Observes revocations from now on. [`Self::is_valid`] covers those since the request began.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        notifications: &Notifications,
        token: Uuid,
    ) -> Self {
        Self { store, clock, token, revoked: notifications.token_revoked.subscribe() }
    }

    /// Whether the token is neither revoked nor expired.
    pub async fn is_valid(&self) -> Result<bool, Error> {
        let token = self.store.token(self.token).await?;
        Ok(token.is_some_and(|token| token.is_valid(self.clock.now())))
    }

    /// Waits until any token is revoked, perhaps this one.
    pub async fn revoked(&mut self) {
        // An error would mean that the sender was dropped, but it lives as long as the process.
        let _ = self.revoked.changed().await;
    }
}
