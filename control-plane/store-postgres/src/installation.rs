//! The identity of the installation, in one row.

use omniflow_policy::time::UnixMillis;

use async_trait::async_trait;
use omniflow_store::encoding::access;
use omniflow_store::encoding::to_millis;
use omniflow_store::{Installation, InstallationStore, InstallationWrites, Result};

use crate::PostgresStore;
use crate::transaction::PostgresTransaction;

#[async_trait]
impl InstallationStore for PostgresStore {
    async fn installation(&self) -> Result<Option<Installation>> {
        let row = self
            .database
            .reader()
            .await?
            .optional_row(sqlx::query(
                "SELECT id, key_prefix, snapshot_version, created_at, published_at FROM installation",
            ))
            .await?;
        row.as_ref().map(access::installation).transpose()
    }
}

#[async_trait]
impl InstallationWrites for PostgresTransaction {
    async fn insert_installation(&mut self, installation: &Installation) -> Result<()> {
        self.connection().execute(sqlx::query(
            "INSERT INTO installation (singleton, id, key_prefix, snapshot_version, created_at, published_at) \
             VALUES (1, $1, $2, $3, $4, $5)",
        )
        .bind(installation.id)
        .bind(installation.key_prefix.as_str().to_owned())
        .bind(installation.snapshot_version.cast_signed())
        .bind(to_millis(installation.created_at))
        .bind(to_millis(installation.published_at))).await?;
        Ok(())
    }

    async fn set_snapshot_version(&mut self, version: u64, published_at: UnixMillis) -> Result<()> {
        self.connection()
            .execute(
                sqlx::query("UPDATE installation SET snapshot_version = $1, published_at = $2")
                    .bind(version.cast_signed())
                    .bind(to_millis(published_at)),
            )
            .await?;
        Ok(())
    }
}
