//! Encrypted arguments of calls, and the data keys that encrypt them.

use async_trait::async_trait;
use omniflow_domain::payload::{SealedDataKey, SealedPayload};
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::request_log;
use omniflow_store::encoding::{Columns, to_millis};
use omniflow_store::{PayloadStore, Result};

use crate::PostgresStore;
use crate::transaction::PostgresTransaction;

#[async_trait]
impl PayloadStore for PostgresStore {
    async fn payload(&self, record: i64) -> Result<Option<SealedPayload>> {
        // Its times select the partitions.
        let Some(times) = self.database.times_of(record..=record, true).await? else { return Ok(None) };
        let query = sqlx::query(
            "SELECT data_key, sealed FROM audit_payloads WHERE time >= $1 AND time < $2 AND record_id = $3",
        )
        .bind(times.0)
        .bind(times.1)
        .bind(record);
        let row = self.database.scanner().await?.optional_row(query).await?;
        row.as_ref().map(request_log::payload).transpose()
    }

    async fn data_key(&self, id: i64) -> Result<Option<SealedDataKey>> {
        Ok(self.data_keys().await?.into_iter().find(|key| key.id == id))
    }

    async fn data_keys(&self) -> Result<Vec<SealedDataKey>> {
        let query = sqlx::query("SELECT id, wrapping_key, sealed FROM audit_data_keys ORDER BY id");
        let rows = self.database.reader().await?.rows(query).await?;
        rows.iter().map(request_log::data_key).collect()
    }

    async fn insert_data_key(
        &self,
        created_at: UnixMillis,
        wrapping_key: &[u8],
        sealed: &[u8],
    ) -> Result<i64> {
        let mut transaction = self.begin_log().await?;
        let statement = sqlx::query(
            "INSERT INTO audit_data_keys (created_at, wrapping_key, sealed) VALUES ($1, $2, $3) RETURNING id",
        )
        .bind(to_millis(created_at))
        .bind(wrapping_key)
        .bind(sealed);
        let id = transaction.connection().row(statement).await?.column(0)?;
        transaction.commit().await?;
        Ok(id)
    }

    async fn reseal_data_keys(&self, keys: &[SealedDataKey]) -> Result<()> {
        let mut transaction = self.begin_log().await?;
        let statement = sqlx::query(
            "UPDATE audit_data_keys AS stored SET wrapping_key = resealed.wrapping_key, sealed = resealed.sealed \
             FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS resealed (id, wrapping_key, sealed) \
             WHERE stored.id = resealed.id",
        )
        .bind(keys.iter().map(|key| key.id).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.wrapping_key.as_slice()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.sealed.as_slice()).collect::<Vec<_>>());
        transaction.connection().execute(statement).await?;
        transaction.commit().await
    }
}

impl PostgresTransaction {
    /// Inserts the arguments of calls, each with the number and the time of its record.
    pub(crate) async fn insert_payloads(
        &mut self,
        payloads: &[(i64, UnixMillis, &SealedPayload)],
    ) -> Result<()> {
        if payloads.is_empty() {
            return Ok(());
        }
        let statement = sqlx::query(
            "INSERT INTO audit_payloads (record_id, time, data_key, sealed) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])",
        )
        .bind(payloads.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .bind(payloads.iter().map(|(_, time, _)| to_millis(*time)).collect::<Vec<_>>())
        .bind(payloads.iter().map(|(.., payload)| payload.data_key).collect::<Vec<_>>())
        .bind(payloads.iter().map(|(.., payload)| payload.sealed.as_slice()).collect::<Vec<_>>());
        self.connection().execute(statement).await?;
        Ok(())
    }
}
