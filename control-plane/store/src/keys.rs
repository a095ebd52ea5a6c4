//! API keys and their versions.

use async_trait::async_trait;
use omniflow_domain::key::{Key, KeyOrder, KeyReference, KeyStatus, KeyVersion};
use omniflow_domain::name::Name;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::scope::Scope;
use omniflow_policy::snapshot::ImageBuilder;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::error::{CredentialsError, Result};

/// A filter of keys, with a sort order. The default is all keys, newest first.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// The order.
    pub order: KeyOrder,
    /// Only keys that have this status at the given instant.
    pub status: Option<(KeyStatus, UnixMillis)>,
    /// Only keys in this environment.
    pub environment: Option<Environment>,
    /// Only keys with this scope.
    pub scope: Option<Scope>,
    /// Only keys whose rotation is due, or only those whose rotation is not due.
    pub rotation: Option<RotationFilter>,
    /// Only keys without an allowed call at or after this instant.
    pub unused_since: Option<UnixMillis>,
    /// Only keys whose last accepted version expires before the second instant. The first instant is now; keys without
    /// an accepted version are left out.
    pub expiring: Option<(UnixMillis, UnixMillis)>,
    /// Only keys that contain this text in name or description, ignoring ASCII case, or have a version with this hint.
    pub text: Option<String>,
}

/// Selects keys by whether their rotation is due, that is, whether their newest accepted version is too old.
#[derive(Clone, Copy, Debug)]
pub struct RotationFilter {
    /// Selects keys whose rotation is due if true, all others if false.
    pub due: bool,
    /// The instant at which the acceptance of versions is evaluated.
    pub now: UnixMillis,
    /// Versions created at or before this instant are due; `None` if no version is ever due.
    pub created_until: Option<UnixMillis>,
}

/// Reads keys.
#[async_trait]
pub trait KeyStore {
    /// The key with all its versions, in ascending order.
    async fn key(&self, reference: &KeyReference) -> Result<Option<Key>>;

    /// Returns up to `limit` keys in the filter's order, after the key `after`. Every page costs the same.
    async fn keys(&self, filter: &KeyFilter, after: Option<Uuid>, limit: usize) -> Result<Vec<Key>>;

    /// Counts keys by environment and by status at `now`. Combinations without keys are left out.
    async fn key_counts(&self, now: UnixMillis) -> Result<Vec<(Environment, KeyStatus, u64)>>;

    /// Counts the versions of all keys.
    async fn version_count(&self) -> Result<usize>;

    /// Adds the versions of a share of the keys to `builder`. The shares `0..parts` are disjoint and together contain all
    /// keys; each may be read on its own thread.
    async fn read_credentials(
        &self,
        part: usize,
        parts: usize,
        builder: &mut ImageBuilder,
    ) -> std::result::Result<(), CredentialsError>;
}

/// Writes keys.
#[async_trait]
pub trait KeyWrites {
    /// The key, as seen by this transaction.
    async fn key(&mut self, reference: &KeyReference) -> Result<Option<Key>>;

    /// Whether a version of any key has this digest.
    async fn digest_is_taken(&mut self, digest: Digest) -> Result<bool>;

    /// Whether a key has this name.
    async fn key_name_is_taken(&mut self, name: &Name) -> Result<bool>;

    /// Inserts keys with their versions. Fails if a name or a digest is taken.
    async fn insert_keys(&mut self, keys: &[Key]) -> Result<()>;

    /// Inserts versions of existing keys. Fails if a digest is taken.
    async fn insert_versions(&mut self, versions: &[(Uuid, &KeyVersion)]) -> Result<()>;

    /// Increments the key's revision, in `key` and in the store. Every change of a key does this once.
    async fn advance_revision(&mut self, key: &mut Key) -> Result<()>;

    /// Updates scopes, limits, IP allowlist, description and expiry.
    async fn update_key(&mut self, key: &Key) -> Result<()>;

    /// Sets when a version expires.
    async fn end_version(&mut self, key: Uuid, version: u16, end: UnixMillis) -> Result<()>;

    /// Revokes a version at `now`. A version that is already revoked keeps its original time.
    async fn revoke_version(&mut self, key: Uuid, version: u16, now: UnixMillis) -> Result<()>;
}
