//! Creating a key, or importing one of another system by its digest.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::admin_event::Action;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::idempotency::Created;
use omniflow_domain::key::{Key, KeyVersion, MAX_HINT_LENGTH};
use omniflow_domain::key_details::{KeyDetails, LastUsed};
use omniflow_domain::name::Name;
use omniflow_domain::principal::Principal;
use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::{Environment, Secret};
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::snapshot::Change;
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;

use super::settings::Settings;
use super::{Committed, Issued, Keys, admin_log, new_secret};
use crate::idempotency::{Idempotent, record};
use crate::run_to_completion;
use omniflow_store::{IdempotentRequest, Transaction};

/// The key to create.
#[derive(Clone, Debug)]
pub struct Create {
    /// Its unique name.
    pub name: Name,
    /// The environment that it is valid in.
    pub environment: Environment,
    /// Its scopes.
    pub settings: Settings,
    /// A key that another system issued: it is imported, and no secret is created.
    pub imported: Option<ImportedKey>,
    /// How long to wait until every live gateway enforces it; `None` to return immediately.
    pub wait: Option<Duration>,
}

/// Identifies a key that another system issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedKey {
    digest: Digest,
    hint: String,
}

/// The version with which a key begins.
pub(crate) fn first_version(digest: Digest, hint: String, now: UnixMillis) -> KeyVersion {
    KeyVersion {
        version: 1,
        digest,
        hint,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        imported: false,
    }
}

/// Adds a key and its admin log event; returns the changes for gateways.
pub(crate) async fn add(
    transaction: &mut dyn Transaction,
    principal: &Principal,
    action: Action,
    key: &Key,
) -> Result<Vec<Change>, Error> {
    transaction.insert_keys(std::slice::from_ref(key)).await?;
    transaction.insert_admin_event(&admin_log::created(principal, action, key)).await?;
    Ok(key.credentials().map(Change::Put).collect())
}

impl Keys {
    /// Creates a key, unless this attempt has created it already.
    pub async fn create(
        self: &Arc<Self>,
        principal: &Principal,
        request: Create,
        attempt: Option<IdempotentRequest>,
    ) -> Result<Idempotent<Issued>, Error> {
        let wait = request.wait;
        let (keys, principal) = (Arc::clone(self), principal.clone());
        let change = async move { keys.issue(&principal, request, attempt).await };
        let mut issued = run_to_completion(change).await?;
        issued.value.value.enforcement = self.enforcement(&issued, wait).await;
        Ok(issued.value)
    }

    async fn issue(
        &self,
        principal: &Principal,
        request: Create,
        attempt: Option<IdempotentRequest>,
    ) -> Result<Committed<Idempotent<Issued>>, Error> {
        let _turn = self.parts.publisher.turn().await;
        let now = self.parts.clock.now();
        let mut transaction = self.parts.store.begin().await?;
        if let Some(issued) =
            self.parts.idempotency.replayed(&mut *transaction, attempt.as_ref(), now).await?
        {
            return self.unchanged(issued);
        }
        let (key, secret) = self.prepare(&mut *transaction, principal, request, now).await?;
        record(&mut *transaction, attempt.as_ref(), &Created::key(key.id), now).await?;
        let action = if secret.is_some() { Action::KeyCreated } else { Action::KeyImported };
        let changes = add(&mut *transaction, principal, action, &key).await?;
        let snapshot = self.parts.publisher.commit(transaction, changes).await?;
        let at = Some(Instant::now());
        tracing::info!(key = %key.id, name = key.name.as_str(), by = key.created_by, version = snapshot, %action, "key created");
        let key = KeyDetails::new(key, &LastUsed::new(), self.parts.rotation_after, now);
        let value = self.parts.idempotency.keep(attempt, Issued { key, secret, enforcement: None }, now);
        Ok(Committed { value, snapshot, at })
    }

    /// The requested key, with its secret if one is generated. It is not added yet.
    async fn prepare(
        &self,
        transaction: &mut dyn Transaction,
        principal: &Principal,
        request: Create,
        now: UnixMillis,
    ) -> Result<(Key, Option<Secret>), Error> {
        let Create { name, environment, settings, imported, wait: _ } = request;
        let is_imported = imported.is_some();
        let (digest, hint, secret) = match imported {
            Some(ImportedKey { digest, hint }) => {
                self.check_imports_are_accepted()?;
                (digest, hint, None)
            }
            None => {
                let secret = new_secret(&self.parts.publisher, &self.parts.entropy, environment)?;
                (secret.digest(), secret.hint(), Some(secret))
            }
        };
        let mut key = Key {
            id: self.parts.entropy.uuid(now)?,
            name,
            environment,
            scopes: ScopeSet::default(),
            rate_limit: RateLimit::default(),
            ip_allowlist: Allowlist::default(),
            description: None,
            created_by: principal.name.to_string(),
            created_at: now,
            expires_at: None,
            revision: 1,
            versions: vec![KeyVersion { imported: is_imported, ..first_version(digest, hint, now) }],
        };
        let (policy, _) = self.parts.publisher.publication.policy()?;
        settings.apply(&mut key, &policy, now)?;
        check_is_new(transaction, &key, digest).await?;
        Ok((key, secret))
    }

    /// Gateways look up keys in another format only if the policy enables it: a key imported before that would be
    /// rejected.
    fn check_imports_are_accepted(&self) -> Result<(), Error> {
        let (policy, _) = self.parts.publisher.publication.policy()?;
        if policy.document().imported_keys {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::ImportsDisabled,
            "The policy does not accept imported keys. Set `imported_keys` to true in the policy, then retry.",
        ))
    }
}

// === impl ImportedKey ===

impl ImportedKey {
    /// The key with this digest, and the last characters of its secret, by which people recognize it.
    ///
    /// # Errors
    ///
    /// `invalid_field` if the hint is too long or not printable.
    pub fn new(digest: Digest, hint: String) -> Result<Self, Error> {
        if hint.len() <= MAX_HINT_LENGTH && hint.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self { digest, hint });
        }
        let detail = format!(
            "hint must be at most {MAX_HINT_LENGTH} printable ASCII characters of the key, such as the last ones: more would reveal too much of the key"
        );
        Err(Error::invalid_field("/hint", detail))
    }
}

/// The error if another key has this name.
pub(super) fn name_taken(name: &Name) -> Error {
    let detail = format!(
        "A key named {name} already exists. Choose another name; names of revoked keys cannot be reused."
    );
    Error::new(ErrorCode::NameTaken, detail)
}

async fn check_is_new(transaction: &mut dyn Transaction, key: &Key, digest: Digest) -> Result<(), Error> {
    if transaction.key_name_is_taken(&key.name).await? {
        return Err(name_taken(&key.name));
    }
    if transaction.digest_is_taken(digest).await? {
        return Err(Error::new(
            ErrorCode::DigestTaken,
            "Another key already has this digest. A secret can belong to only one key.",
        ));
    }
    Ok(())
}
