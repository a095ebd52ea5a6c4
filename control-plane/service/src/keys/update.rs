//! Updating what a key may do, from where, how often and until when.

use std::sync::Arc;

use omniflow_domain::admin_event::Action;
use omniflow_domain::admin_event_state::key_state;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::key::{Key, KeyStatus};
use omniflow_domain::key_details::KeyDetails;
use omniflow_domain::principal::Principal;
use omniflow_policy::snapshot::{Change, Credential};

use super::settings::Settings;
use super::{Keys, admin_log, no_such_key};
use crate::precondition::Precondition;
use crate::run_to_completion;
use omniflow_store::KeyReference;

/// A change to a key.
#[derive(Clone, Debug)]
pub struct Update {
    /// The key's identifier or name.
    pub key: KeyReference,
    /// The revisions that may be changed.
    pub precondition: Precondition,
    /// The settings to change.
    pub settings: Settings,
}

impl Keys {
    /// Updates a key.
    pub async fn update(
        self: &Arc<Self>,
        principal: &Principal,
        request: Update,
    ) -> Result<KeyDetails, Error> {
        let (keys, principal) = (Arc::clone(self), principal.clone());
        let key = run_to_completion(async move { keys.apply(&principal, request).await }).await?;
        Ok(self.details_after_commit(key).await)
    }

    async fn apply(&self, principal: &Principal, request: Update) -> Result<Key, Error> {
        let _turn = self.parts.publisher.turn().await;
        let now = self.parts.clock.now();
        let (policy, _) = self.parts.publisher.publication.policy()?;
        let mut transaction = self.parts.store.begin().await?;
        let mut key = transaction.key(&request.key).await?.ok_or_else(no_such_key)?;
        request.precondition.check(key.name.as_str(), key.revision)?;
        if key.status(now) == KeyStatus::Revoked {
            return Err(Error::new(
                ErrorCode::KeyRevoked,
                "This key was revoked and stays so. Issue a new one.",
            ));
        }
        let before = key.clone();
        request.settings.apply(&mut key, &policy, now)?;
        if key_state(&key) == key_state(&before) {
            return Ok(key);
        }
        transaction.update_key(&key).await?;
        transaction.advance_revision(&mut key).await?;
        let event = admin_log::changed(principal, Action::KeyChanged, &before, &key, now);
        transaction.insert_admin_event(&event).await?;
        let credentials: Vec<Credential> = key.credentials().collect();
        if before.credentials().eq(credentials.iter().cloned()) {
            // Only the description differs, which gateways do not have.
            transaction.commit().await?;
            return Ok(key);
        }
        let changes = credentials.into_iter().map(Change::Put).collect();
        let version = self.parts.publisher.commit(transaction, changes).await?;
        tracing::info!(key = %key.id, name = key.name.as_str(), by = principal.name.as_str(), version, "key updated");
        Ok(key)
    }
}
