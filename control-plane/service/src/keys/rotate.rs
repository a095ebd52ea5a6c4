//! Rotating a key: a new secret, while the older ones are accepted for the overlap.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::admin_event::Action;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::idempotency::Created;
use omniflow_domain::key::{Key, NotRotatable, Overlap};
use omniflow_domain::key_details::KeyDetails;
use omniflow_domain::principal::Principal;
use omniflow_policy::snapshot::{Change, Credential};

use super::{Committed, Issued, Keys, admin_log, new_secret, no_such_key};
use crate::idempotency::{Idempotent, record};
use crate::precondition::Precondition;
use crate::run_to_completion;
use omniflow_domain::key::KeyReference;
use omniflow_store::IdempotentRequest;
use tokio::time::Instant;

/// A rotation.
#[derive(Clone, Debug)]
pub struct Rotate {
    /// The key's identifier or name.
    pub key: KeyReference,
    /// How long older versions are still accepted.
    pub overlap: Overlap,
    /// The revisions that may be rotated.
    pub precondition: Precondition,
    /// How long to wait until every live gateway enforces it; `None` to return immediately.
    pub wait: Option<Duration>,
}

impl Keys {
    /// Rotates a key, unless this attempt has rotated it already.
    pub async fn rotate(
        self: &Arc<Self>,
        principal: &Principal,
        request: Rotate,
        attempt: Option<IdempotentRequest>,
    ) -> Result<Idempotent<Issued>, Error> {
        let Rotate { key, overlap, precondition, wait } = request;
        let (keys, principal) = (Arc::clone(self), principal.clone());
        let change = async move { keys.add_version(&principal, &key, overlap, precondition, attempt).await };
        let mut rotated = run_to_completion(change).await?;
        rotated.value.value.enforcement = self.enforcement(&rotated, wait).await;
        Ok(rotated.value)
    }

    async fn add_version(
        &self,
        principal: &Principal,
        reference: &KeyReference,
        overlap: Overlap,
        precondition: Precondition,
        attempt: Option<IdempotentRequest>,
    ) -> Result<Committed<Idempotent<Issued>>, Error> {
        // Before the publisher's turn: a long read of the request log must not delay changes. After the commit nothing
        // may fail, because the secret would be lost.
        let known = self.parts.store.key(reference).await?.ok_or_else(no_such_key)?;
        let last_used = self.last_used_or_none(known.id).await;
        let _turn = self.parts.publisher.turn().await;
        let now = self.parts.clock.now();
        let mut transaction = self.parts.store.begin().await?;
        if let Some(issued) =
            self.parts.idempotency.replayed(&mut *transaction, attempt.as_ref(), now).await?
        {
            return self.unchanged(issued);
        }
        let before = transaction.key(reference).await?.ok_or_else(no_such_key)?;
        precondition.check(before.name.as_str(), before.revision)?;
        let secret = new_secret(&self.parts.publisher, &self.parts.entropy, before.environment)?;
        let mut key = before.clone();
        key.rotate(&secret, overlap, now).map_err(not_rotatable)?;
        for (older, version) in before.versions.iter().zip(&key.versions) {
            if let Some(end) = version.expires_at.filter(|_| version.expires_at != older.expires_at) {
                transaction.end_version(key.id, version.version, end).await?;
            }
        }
        let added: Vec<_> =
            key.versions.iter().skip(before.versions.len()).map(|version| (key.id, version)).collect();
        transaction.insert_versions(&added).await?;
        let number = added.last().map(|(_, version)| version.version);
        transaction.advance_revision(&mut key).await?;
        record(&mut *transaction, attempt.as_ref(), &Created::key(key.id), now).await?;
        let event = admin_log::changed(principal, Action::KeyRotated, &before, &key, now);
        transaction.insert_admin_event(&event).await?;
        let snapshot = self.parts.publisher.commit(transaction, changes(&before, &key)).await?;
        let at = Some(Instant::now());
        tracing::info!(key = %key.id, name = key.name.as_str(), number, overlap = ?overlap.duration(), by = principal.name.as_str(), version = snapshot, "key rotated");
        let key = KeyDetails::new(key, &last_used, self.parts.rotation_after, now);
        let issued = Issued { key, secret: Some(secret), enforcement: None };
        Ok(Committed { value: self.parts.idempotency.keep(attempt, issued, now), snapshot, at })
    }
}

/// The changes for gateways. A version that continues unchanged, or expires with the key anyway, is not included.
fn changes(before: &Key, after: &Key) -> Vec<Change> {
    let known: Vec<Credential> = before.credentials().collect();
    let credentials = after.credentials().enumerate();
    credentials.filter(|(n, new)| known.get(*n) != Some(new)).map(|(_, new)| Change::Put(new)).collect()
}

fn not_rotatable(error: NotRotatable) -> Error {
    let code = match error {
        NotRotatable::Revoked => ErrorCode::KeyRevoked,
        NotRotatable::Expired | NotRotatable::Ended => ErrorCode::KeyExpired,
        NotRotatable::Exhausted => ErrorCode::VersionsExhausted,
    };
    Error::new(code, error.to_string())
}
