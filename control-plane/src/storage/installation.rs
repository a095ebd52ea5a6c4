//! The one row that says which installation this is.

use omniflow_policy::key::KeyPrefix;
use omniflow_policy::time::UnixMillis;
use sqlx::Row;
use uuid::Uuid;

use super::columns::{from_millis, to_millis};
use super::{Database, Result, StorageError, Transaction};

/// Which installation this is, and what it published last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    /// Its identifier, which every snapshot carries.
    pub(crate) id: Uuid,
    /// What its keys and tokens begin with.
    pub(crate) key_prefix: KeyPrefix,
    /// The version of the last published snapshot.
    pub(crate) snapshot_version: u64,
    /// When it was first started.
    pub(crate) created_at: UnixMillis,
}

impl Database {
    /// The installation; `None` before the first start.
    pub(crate) async fn installation(&self) -> Result<Option<Installation>> {
        let row = sqlx::query("SELECT id, key_prefix, snapshot_version, created_at FROM installation")
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Installation {
            id: row.try_get(0)?,
            key_prefix: KeyPrefix::parse(row.try_get(1)?)
                .map_err(|_| StorageError::Corrupt("a key prefix"))?,
            snapshot_version: row.try_get::<i64, _>(2)?.cast_unsigned(),
            created_at: from_millis(row.try_get(3)?),
        }))
    }
}

impl Transaction<'_> {
    /// Writes the row, once in the life of a database.
    pub(crate) async fn insert_installation(&mut self, installation: &Installation) -> Result<()> {
        sqlx::query(
            "INSERT INTO installation (singleton, id, key_prefix, snapshot_version, created_at) VALUES (1, ?, ?, ?, ?)",
        )
        .bind(installation.id)
        .bind(installation.key_prefix.as_str().to_owned())
        .bind(installation.snapshot_version.cast_signed())
        .bind(to_millis(installation.created_at))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Records the version under which this transaction is published.
    pub async fn set_snapshot_version(&mut self, version: u64) -> Result<()> {
        sqlx::query("UPDATE installation SET snapshot_version = ?")
            .bind(version.cast_signed())
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
