//! The identity of the installation, in one row.

use omniflow_policy::time::UnixMillis;

use async_trait::async_trait;
use omniflow_store::encoding::access;
use omniflow_store::encoding::to_millis;
use omniflow_store::{Installation, InstallationStore, InstallationWrites, Result, StoreError};

use crate::SqliteStore;
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
        row.as_ref().map(access::installation).transpose()
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
