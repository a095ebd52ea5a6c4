//! The identity of the installation, in one row.

use omniflow_policy::key::KeyPrefix;
use omniflow_policy::time::UnixMillis;

use async_trait::async_trait;
use omniflow_store::{Installation, InstallationStore, InstallationWrites, Result, StoreError};

use crate::SqliteStore;
use crate::columns::{Columns, from_millis, to_millis};
use crate::database::SqliteTransaction;

#[async_trait]
impl InstallationStore for SqliteStore {
    async fn installation(&self) -> Result<Option<Installation>> {
        let row = sqlx::query(
            "SELECT id, key_prefix, snapshot_version, created_at, published_at FROM installation",
        )
        .fetch_optional(&mut *self.main.reader().await?)
        .await
        .map_err(StoreError::backend)?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Installation {
            id: row.column(0)?,
            key_prefix: KeyPrefix::parse(row.column(1)?).map_err(|_| StoreError::Corrupt("a key prefix"))?,
            snapshot_version: row.column::<i64, _>(2)?.cast_unsigned(),
            created_at: from_millis(row.column(3)?),
            published_at: from_millis(row.column(4)?),
        }))
    }
}

#[async_trait]
impl InstallationWrites for SqliteTransaction {
    async fn insert_installation(&mut self, installation: &Installation) -> Result<()> {
        sqlx::query(
            "INSERT INTO installation (singleton, id, key_prefix, snapshot_version, created_at, published_at) \
             VALUES (1, ?, ?, ?, ?, ?)",
        )
        .bind(installation.id)
        .bind(installation.key_prefix.as_str().to_owned())
        .bind(installation.snapshot_version.cast_signed())
        .bind(to_millis(installation.created_at))
        .bind(to_millis(installation.published_at))
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn set_snapshot_version(&mut self, version: u64, published_at: UnixMillis) -> Result<()> {
        sqlx::query("UPDATE installation SET snapshot_version = ?, published_at = ?")
            .bind(version.cast_signed())
            .bind(to_millis(published_at))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }
}
