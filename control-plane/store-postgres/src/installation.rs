//! The identity of the installation, in one row.

use omniflow_policy::key::KeyPrefix;
use omniflow_policy::time::UnixMillis;

use async_trait::async_trait;
use omniflow_store::{Installation, InstallationStore, InstallationWrites, Result, StoreError};

use crate::PostgresStore;
use crate::columns::{Columns, from_millis, to_millis};
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
