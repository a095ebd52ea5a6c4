//! Revoking a key or one version of it, and waiting until gateways enforce it.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::admin_event::Action;
use omniflow_domain::error::{Error, Missing};
use omniflow_domain::gateway::Enforcement;
use omniflow_domain::key::Key;
use omniflow_domain::key_details::KeyDetails;
use omniflow_domain::principal::Principal;
use omniflow_policy::snapshot::Change;
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;

use super::{Keys, admin_log, no_such_key};
use crate::precondition::Precondition;
use crate::run_to_completion;
use omniflow_domain::key::KeyReference;
use omniflow_store::Transaction;

/// A revocation.
#[derive(Clone, Debug)]
pub struct Revoke {
    /// The key's identifier or name.
    pub key: KeyReference,
    /// The only version to revoke; `None` for all.
    pub version: Option<u16>,
    /// The revisions that may be revoked.
    pub precondition: Precondition,
    /// How long to wait until every live gateway enforces it; `None` to return immediately.
    pub wait: Option<Duration>,
}

/// A revocation that is committed and published.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The key.
    pub key: KeyDetails,
    /// The snapshot version that contains it.
    pub snapshot: u64,
    /// When it was committed; `None` if it had been revoked before.
    pub committed: Option<Instant>,
    /// Its enforcement status, if the request waits.
    pub enforcement: Option<Enforcement>,
}

struct Commit {
    key: Key,
    snapshot: u64,
    committed: Option<Instant>,
}

/// Revokes the versions of a key that are `selected` and not revoked yet, with an admin log event. Returns the changes
/// for gateways; none if no version was revoked.
pub(crate) async fn revoke_versions(
    transaction: &mut dyn Transaction,
    principal: &Principal,
    action: Action,
    key: &mut Key,
    selected: impl Fn(u16) -> bool,
    now: UnixMillis,
) -> Result<Vec<Change>, Error> {
    let before = key.clone();
    let mut changes = Vec::new();
    for version in &mut key.versions {
        if selected(version.version) && version.revoked_at.is_none() {
            transaction.revoke_version(key.id, version.version, now).await?;
            version.revoked_at = Some(now);
            changes.push(Change::Revoke(version.digest));
        }
    }
    if !changes.is_empty() {
        transaction.advance_revision(key).await?;
        transaction.insert_admin_event(&admin_log::changed(principal, action, &before, key, now)).await?;
    }
    Ok(changes)
}

/// The error if a key has no version with this number.
pub fn no_such_version() -> Error {
    Error::missing(Missing::KeyVersion)
}

impl Keys {
    /// Revokes a key, or one version of it.
    pub async fn revoke(self: &Arc<Self>, principal: &Principal, request: Revoke) -> Result<Revoked, Error> {
        let Revoke { key, version, precondition, wait } = request;
        let (keys, principal) = (Arc::clone(self), principal.clone());
        let change = async move { keys.commit(&principal, &key, version, precondition).await };
        let Commit { key, snapshot, committed } = run_to_completion(change).await?;
        let publication = &self.parts.publisher.publication;
        let enforcement = self
            .parts
            .fleet
            .enforcement_after(snapshot, publication, &self.parts.notifications, committed, wait)
            .await;
        Ok(Revoked { key: self.details_after_commit(key).await, snapshot, committed, enforcement })
    }

    async fn commit(
        &self,
        principal: &Principal,
        key: &KeyReference,
        only: Option<u16>,
        precondition: Precondition,
    ) -> Result<Commit, Error> {
        let _turn = self.parts.publisher.turn().await;
        let now = self.parts.clock.now();
        let mut transaction = self.parts.store.begin().await?;
        let mut key = transaction.key(key).await?.ok_or_else(no_such_key)?;
        if only.is_some_and(|only| !key.versions.iter().any(|version| version.version == only)) {
            return Err(no_such_version());
        }
        precondition.check(key.name.as_str(), key.revision)?;
        let action = if only.is_some() { Action::KeyVersionRevoked } else { Action::KeyRevoked };
        let selected = |version| only.is_none_or(|only| version == only);
        let changes = revoke_versions(&mut *transaction, principal, action, &mut key, selected, now).await?;
        if changes.is_empty() {
            return Ok(Commit {
                key,
                snapshot: self.parts.publisher.publication.version()?,
                committed: None,
            });
        }
        let snapshot = self.parts.publisher.commit(transaction, changes).await?;
        let committed = Some(Instant::now());
        tracing::info!(key = %key.id, name = key.name.as_str(), only, by = principal.name.as_str(), version = snapshot, "key revoked");
        Ok(Commit { key, snapshot, committed })
    }
}
