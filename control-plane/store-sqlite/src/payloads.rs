//! Encrypted arguments of calls, and the data keys that encrypt them.

use omniflow_policy::time::UnixMillis;

use omniflow_domain::payload::{SealedDataKey, SealedPayload};

use async_trait::async_trait;
use omniflow_store::encoding::request_log;
use omniflow_store::encoding::to_millis;
use omniflow_store::{PayloadStore, Result, StoreError};

use crate::SqliteStore;
use crate::database::SqliteTransaction;

#[async_trait]
impl PayloadStore for SqliteStore {
    async fn payload(&self, record: i64) -> Result<Option<SealedPayload>> {
        let row = sqlx::query("SELECT data_key, sealed FROM audit_payloads WHERE record_id = ?")
            .bind(record)
            .fetch_optional(&mut *self.audit.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        row.as_ref().map(request_log::payload).transpose()
    }

    async fn data_key(&self, id: i64) -> Result<Option<SealedDataKey>> {
        Ok(self.data_keys().await?.into_iter().find(|key| key.id == id))
    }

    async fn data_keys(&self) -> Result<Vec<SealedDataKey>> {
        let rows = sqlx::query("SELECT id, wrapping_key, sealed FROM audit_data_keys ORDER BY id")
            .fetch_all(&mut *self.audit.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        rows.iter().map(request_log::data_key).collect()
    }

    async fn insert_data_key(
        &self,
        created_at: UnixMillis,
        wrapping_key: &[u8],
        sealed: &[u8],
    ) -> Result<i64> {
        let mut transaction = self.audit.begin().await?;
        let inserted =
            sqlx::query("INSERT INTO audit_data_keys (created_at, wrapping_key, sealed) VALUES (?, ?, ?)")
                .bind(to_millis(created_at))
                .bind(wrapping_key.to_vec())
                .bind(sealed.to_vec())
                .execute(transaction.connection())
                .await
                .map_err(StoreError::backend)?;
        transaction.commit().await?;
        Ok(inserted.last_insert_rowid())
    }

    async fn reseal_data_keys(&self, keys: &[SealedDataKey]) -> Result<()> {
        let mut transaction = self.audit.begin().await?;
        for key in keys {
            sqlx::query("UPDATE audit_data_keys SET wrapping_key = ?, sealed = ? WHERE id = ?")
                .bind(key.wrapping_key.clone())
                .bind(key.sealed.clone())
                .bind(key.id)
                .execute(transaction.connection())
                .await
                .map_err(StoreError::backend)?;
        }
        transaction.commit().await
    }
}

impl SqliteTransaction {
    /// Inserts the arguments of a call.
    pub(crate) async fn insert_payload(
        &mut self,
        record: i64,
        time: UnixMillis,
        payload: &SealedPayload,
    ) -> Result<()> {
        sqlx::query("INSERT INTO audit_payloads (record_id, time, data_key, sealed) VALUES (?, ?, ?, ?)")
            .bind(record)
            .bind(to_millis(time))
            .bind(payload.data_key)
            .bind(payload.sealed.clone())
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }
}
