//! Updates the scopes, allowlist, limits, expiry or description of a key.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::admin_event::Action;
use omniflow_domain::admin_event_state::key_state;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::gateway::Enforcement;
use omniflow_domain::key::{Key, KeyStatus};
use omniflow_domain::key_details::KeyDetails;
use omniflow_domain::principal::Principal;
use omniflow_policy::snapshot::{Change, Credential};

use super::settings::Settings;
use super::{Committed, Keys, admin_log, no_such_key};
use crate::precondition::Precondition;
use crate::run_to_completion;
use omniflow_domain::key::KeyReference;
use tokio::time::Instant;

/// A change to a key.
#[derive(Clone, Debug)]
pub struct Update {
    /// The key's identifier or name.
    pub key: KeyReference,
    /// The revisions that may be changed.
    pub precondition: Precondition,
    /// The settings to change.
    pub settings: Settings,
    /// How long to wait until every live gateway enforces it; `None` to return immediately.
    pub wait: Option<Duration>,
}

/// An updated key.
#[derive(Clone, Debug)]
pub struct Updated {
    /// The key.
    pub key: KeyDetails,
    /// The enforcement status of the change, if the request waits.
    pub enforcement: Option<Enforcement>,
}

impl Keys {
    /// Updates a key.
    pub async fn update(self: &Arc<Self>, principal: &Principal, request: Update) -> Result<Updated, Error> {
        let wait = request.wait;
        let (keys, principal) = (Arc::clone(self), principal.clone());
        let change = run_to_completion(async move { keys.apply(&principal, request).await }).await?;
        let enforcement = self.enforcement(&change, wait).await;
        Ok(Updated { key: self.details_after_commit(change.value).await, enforcement })
    }

    async fn apply(&self, principal: &Principal, request: Update) -> Result<Committed<Key>, Error> {
        let _turn = self.parts.publisher.turn().await;
        let now = self.parts.clock.now();
        let (policy, _) = self.parts.publisher.publication.policy()?;
        let mut transaction = self.parts.store.begin().await?;
        let mut key = transaction.key(&request.key).await?.ok_or_else(no_such_key)?;
        request.precondition.check(key.name.as_str(), key.revision)?;
        if key.status(now) == KeyStatus::Revoked {
            return Err(Error::new(
                ErrorCode::KeyRevoked,
                "This key is revoked and cannot be changed. Create a new key.",
            ));
        }
        let before = key.clone();
        request.settings.apply(&mut key, &policy, now)?;
        if key_state(&key) == key_state(&before) {
            return self.unchanged(key);
        }
        transaction.update_key(&key).await?;
        transaction.advance_revision(&mut key).await?;
        let event = admin_log::changed(principal, Action::KeyChanged, &before, &key, now);
        transaction.insert_admin_event(&event).await?;
        let credentials: Vec<Credential> = key.credentials().collect();
        if before.credentials().eq(credentials.iter().cloned()) {
            // Only the description differs, and gateways do not have it.
            transaction.commit().await?;
            return self.unchanged(key);
        }
        let changes = credentials.into_iter().map(Change::Put).collect();
        let snapshot = self.parts.publisher.commit(transaction, changes).await?;
        let at = Some(Instant::now());
        tracing::info!(key = %key.id, name = key.name.as_str(), by = principal.name.as_str(), version = snapshot, "key updated");
        Ok(Committed { value: key, snapshot, at })
    }
}
