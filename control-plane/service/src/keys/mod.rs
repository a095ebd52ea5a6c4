//! Keys: created, imported, listed, updated, rotated and revoked.

mod admin_log;
mod create;
mod list;
mod revoke;
mod rotate;
mod settings;
mod show;
mod text;
mod update;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::{Clock, Entropy};
use omniflow_domain::error::{Error, Missing};
use omniflow_domain::gateway::Enforcement;
use omniflow_domain::key::Key;
use omniflow_domain::key_details::{KeyDetails, LastUsed};
use omniflow_policy::key::{Environment, Secret, compose_key};
use tokio::time::Instant;
use uuid::Uuid;

use super::fleet::Fleet;
use super::idempotency::{IdempotencyCache, Replayable};
use super::notifications::Notifications;
use super::publisher::Publisher;
use omniflow_store::Store;

pub use create::{Create, ImportedKey};
pub(crate) use create::{add, first_version};
pub(crate) use revoke::revoke_versions;
pub use revoke::{Revoke, Revoked, no_such_version};
pub use rotate::Rotate;
pub use settings::{Settings, effective_rate_limit};
pub use text::{KeyText, ParsedKey, SettingsText};
pub use update::{Update, Updated};

/// The use cases of keys.
pub struct Keys {
    parts: KeyParts,
}

/// The dependencies of the use cases of keys and leaks.
#[derive(Clone)]
pub struct KeyParts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Commits changes and publishes them.
    pub publisher: Arc<Publisher>,
    /// The gateways that enforce changes.
    pub fleet: Arc<Fleet>,
    /// Ends waiting when the process ends.
    pub notifications: Notifications,
    /// The results of recent requests with an idempotency key.
    pub idempotency: Arc<IdempotencyCache>,
    /// How long after its creation a version is due for rotation; `None` for never.
    pub rotation_after: Option<Duration>,
    /// The clock.
    pub clock: Clock,
    /// The source of randomness.
    pub entropy: Entropy,
}

/// A key with a new version, and that version's secret.
#[derive(Clone)]
pub struct Issued {
    /// The key as it was when the version was created.
    pub key: KeyDetails,
    /// The secret; `None` if another system created it.
    pub secret: Option<Secret>,
    /// The enforcement status of the version, if the request waits.
    pub enforcement: Option<Enforcement>,
}

/// The result of a change that is committed and published.
pub(crate) struct Committed<T> {
    pub(crate) value: T,
    /// The snapshot version that contains the change.
    pub(crate) snapshot: u64,
    /// When it was committed; `None` if nothing was changed.
    pub(crate) at: Option<Instant>,
}

/// A new secret of this installation.
pub(crate) fn new_secret(
    publisher: &Publisher,
    entropy: &Entropy,
    environment: Environment,
) -> Result<Secret, Error> {
    let prefix = &publisher.installation.key_prefix;
    Ok(entropy.compose(|mut random| compose_key(prefix, environment, &mut random))?)
}

fn no_such_key() -> Error {
    Error::missing(Missing::Key)
}

// === impl Keys ===

impl Keys {
    /// The use cases over these parts.
    pub fn new(parts: KeyParts) -> Self {
        Self { parts }
    }

    /// A result without a change.
    fn unchanged<T>(&self, value: T) -> Result<Committed<T>, Error> {
        Ok(Committed { value, snapshot: self.parts.publisher.publication.version()?, at: None })
    }

    /// The enforcement status of a change, after at most `wait`; `None` without a wait.
    async fn enforcement<T>(&self, change: &Committed<T>, wait: Option<Duration>) -> Option<Enforcement> {
        let KeyParts { publisher, fleet, notifications, .. } = &self.parts;
        fleet.enforcement_after(change.snapshot, &publisher.publication, notifications, change.at, wait).await
    }

    /// A key with the times of its last use.
    async fn details(&self, key: Key) -> Result<KeyDetails, Error> {
        let last_used = self.parts.store.last_used(&[key.id]).await?;
        Ok(KeyDetails::new(key, &last_used, self.parts.rotation_after, self.parts.clock.now()))
    }

    /// Like [`Self::details`], but after a committed change: it succeeds even if the request log cannot be read.
    async fn details_after_commit(&self, key: Key) -> KeyDetails {
        let last_used = self.last_used_or_none(key.id).await;
        KeyDetails::new(key, &last_used, self.parts.rotation_after, self.parts.clock.now())
    }

    /// The times of a key's last use; none if the request log cannot be read, which must not prevent a change.
    async fn last_used_or_none(&self, key: Uuid) -> LastUsed {
        self.parts.store.last_used(&[key]).await.unwrap_or_else(|error| {
            tracing::error!(%error, %key, "last use of a changed key unavailable");
            LastUsed::new()
        })
    }
}

// === impl Issued ===

impl Replayable for Issued {
    fn retained_bytes(&self) -> usize {
        /// An entry of the map of last uses, with the map's own overhead.
        const LAST_USED_BYTES: usize = 64;
        let key = &self.key.key;
        let scopes: usize = key.scopes.iter().map(|scope| size_of_val(scope) + scope.as_str().len()).sum();
        size_of::<Self>()
            + key.name.as_str().len()
            + key.description.as_ref().map_or(0, String::len)
            + scopes
            + size_of_val(key.ip_allowlist.networks())
            + key.versions.iter().map(|version| size_of_val(version) + version.hint.len()).sum::<usize>()
            + self.key.last_used.len() * LAST_USED_BYTES
            + self.secret.as_ref().map_or(0, |secret| secret.expose().len())
    }
}
