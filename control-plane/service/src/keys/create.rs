//! Creating a key, or importing one of another system by its digest.

use std::sync::Arc;

use omniflow_domain::admin_event::Action;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::key::{Key, KeyVersion};
use omniflow_domain::key_details::{KeyDetails, LastUsed};
use omniflow_domain::principal::Principal;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Secret;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::snapshot::Change;
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;

use super::{Committed, Issued, Keys, admin_log, new_secret};
use crate::idempotency::{Idempotent, record};
use crate::{fields, query, run_to_completion};
use omniflow_store::{Attempt, Transaction};

/// The key to create.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// A name that no other key has.
    pub name: String,
    /// `live` or `test`.
    pub environment: String,
    /// Scopes of the policy.
    pub scopes: Vec<String>,
    /// Limits; the default where none are stated.
    pub rate_limit: Option<RateLimit>,
    /// Addresses and networks; none for any address.
    pub ip_allowlist: Option<Vec<String>>,
    /// When the key ends.
    pub expires_at: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The SHA-256 of a key that another system has issued: it is imported, and no secret is created.
    pub digest: Option<String>,
    /// The last characters of that key.
    pub hint: Option<String>,
    /// How long to wait until every live gateway enforces it.
    pub wait: Option<String>,
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

/// Adds a key and its admin log event; returns what changes for gateways.
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
        attempt: Option<Attempt>,
    ) -> Result<Idempotent<Issued>, Error> {
        let wait = query::wait(request.wait.clone())?;
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
        attempt: Option<Attempt>,
    ) -> Result<Committed<Idempotent<Issued>>, Error> {
        let _turn = self.publisher.turn().await;
        let now = self.clock.now();
        let mut transaction = self.store.begin().await?;
        if let Some(issued) = self.idempotency.replayed(&mut *transaction, attempt.as_ref(), now).await? {
            return self.unchanged(issued);
        }
        let (key, secret) = self.prepare(&mut *transaction, principal, request, now).await?;
        record(&mut *transaction, attempt.as_ref(), &format!("/v1/keys/{}", key.id), now).await?;
        let action = if secret.is_some() { Action::KeyCreated } else { Action::KeyImported };
        let changes = add(&mut *transaction, principal, action, &key).await?;
        let snapshot = self.publisher.commit(transaction, changes).await?;
        let at = Some(Instant::now());
        tracing::info!(key = %key.id, name = key.name.as_str(), by = key.created_by, version = snapshot, %action, "key created");
        let key = KeyDetails::new(key, &LastUsed::new(), self.rotation_after, now);
        let value = self.idempotency.keep(attempt, Issued { key, secret, enforcement: None }, now);
        Ok(Committed { value, snapshot, at })
    }

    /// Checks everything that creating this key would check, and creates nothing.
    pub async fn dry_run(&self, principal: &Principal, request: Create) -> Result<(), Error> {
        let mut transaction = self.store.begin().await?;
        let now = self.clock.now();
        self.prepare(&mut *transaction, principal, request, now).await.map(drop)
    }

    /// The key that is requested, with its secret where one is created, if it may be created. It is not added yet.
    async fn prepare(
        &self,
        transaction: &mut dyn Transaction,
        principal: &Principal,
        request: Create,
        now: UnixMillis,
    ) -> Result<(Key, Option<Secret>), Error> {
        let environment = fields::environment(&request.environment)?;
        if request.digest.is_some() {
            self.check_imports_are_accepted()?;
        }
        let (digest, hint, secret) = match fields::digest(request.digest.as_deref())? {
            Some(digest) => (digest, fields::hint(request.hint.as_deref())?, None),
            None if request.hint.is_some() => {
                return Err(Error::invalid_field(
                    "/hint",
                    "a hint is for a key that is taken over by its digest",
                ));
            }
            None => {
                let secret = new_secret(&self.publisher, &self.entropy, environment)?;
                (secret.digest(), secret.hint(), Some(secret))
            }
        };
        let version = KeyVersion { imported: secret.is_none(), ..first_version(digest, hint, now) };
        let key = self.new_key(principal, request, version, now)?;
        check_is_new(transaction, &key, digest).await?;
        Ok((key, secret))
    }

    /// Gateways look up keys of another form only where the policy says so: a key imported before would be rejected.
    fn check_imports_are_accepted(&self) -> Result<(), Error> {
        let (policy, _) = self.publisher.publication.policy()?;
        if policy.document().imported_keys {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::ImportsNotTaken,
            "Gateways do not take keys of another system yet. Set imported_keys to true in the policy first.",
        ))
    }

    /// The requested key, if all of its fields are valid.
    fn new_key(
        &self,
        principal: &Principal,
        request: Create,
        version: KeyVersion,
        now: UnixMillis,
    ) -> Result<Key, Error> {
        let (policy, _) = self.publisher.publication.policy()?;
        Ok(Key {
            id: self.entropy.uuid(now)?,
            name: fields::name(&request.name)?,
            environment: fields::environment(&request.environment)?,
            scopes: fields::scopes(&request.scopes, &policy)?,
            rate_limit: fields::rate_limit(request.rate_limit)?,
            ip_allowlist: fields::ip_allowlist(request.ip_allowlist)?,
            description: fields::description(request.description)?,
            created_by: principal.name.to_string(),
            created_at: now,
            expires_at: fields::expires_at(request.expires_at, now)?,
            revision: 1,
            versions: vec![version],
        })
    }
}

async fn check_is_new(transaction: &mut dyn Transaction, key: &Key, digest: Digest) -> Result<(), Error> {
    if transaction.key_name_is_taken(&key.name).await? {
        return Err(Error::new(
            ErrorCode::NameTaken,
            format!(
                "Another key is called {}. Choose another name: those of revoked keys stay taken.",
                key.name
            ),
        ));
    }
    if transaction.digest_is_taken(digest).await? {
        return Err(Error::new(
            ErrorCode::DigestTaken,
            "A key of this installation has this digest already. A secret stands for one key.",
        ));
    }
    Ok(())
}
