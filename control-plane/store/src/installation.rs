//! The identity of the installation.

use async_trait::async_trait;
use omniflow_policy::key::KeyPrefix;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::error::Result;

/// An installation, and the snapshot version that it last published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Its identifier, which every snapshot contains.
    pub id: Uuid,
    /// The prefix of its keys and tokens.
    pub key_prefix: KeyPrefix,
    /// The version of the last published snapshot.
    pub snapshot_version: u64,
    /// When it was published. Not derivable from the version, which is ahead of the clock after a restore.
    pub published_at: UnixMillis,
    /// When it was first started.
    pub created_at: UnixMillis,
}

/// Reads the installation.
#[async_trait]
pub trait InstallationStore {
    /// The installation; `None` before the first start.
    async fn installation(&self) -> Result<Option<Installation>>;
}

/// Writes the installation.
#[async_trait]
pub trait InstallationWrites {
    /// Inserts the installation. Fails if there is one.
    async fn insert_installation(&mut self, installation: &Installation) -> Result<()>;

    /// Sets the version under which this transaction is published, and when.
    async fn set_snapshot_version(&mut self, version: u64, published_at: UnixMillis) -> Result<()>;
}
