//! Create requests with an idempotency key.

use omniflow_policy::time::UnixMillis;

use async_trait::async_trait;
use omniflow_domain::idempotency::Created;
use omniflow_store::encoding::access;
use omniflow_store::encoding::{digest_bytes, to_millis};
use omniflow_store::{IdempotencyWrites, IdempotentRequest, RecordedRequest, Result, StoreError};

use crate::transaction::PostgresTransaction;

#[async_trait]
impl IdempotencyWrites for PostgresTransaction {
    async fn recorded_request(
        &mut self,
        attempt: &IdempotentRequest,
        since: UnixMillis,
    ) -> Result<Option<RecordedRequest>> {
        let row = self.connection().optional_row(sqlx::query(
            "SELECT request_digest, created FROM idempotency WHERE token_id = $1 AND key_digest = $2 AND created_at >= $3",
        )
        .bind(attempt.token)
        .bind(digest_bytes(attempt.key))
        .bind(to_millis(since))).await?;
        row.as_ref().map(access::recorded_request).transpose()
    }

    async fn record_request(
        &mut self,
        attempt: &IdempotentRequest,
        created: &Created,
        now: UnixMillis,
        since: UnixMillis,
    ) -> Result<()> {
        self.connection()
            .execute(sqlx::query("DELETE FROM idempotency WHERE created_at < $1").bind(to_millis(since)))
            .await?;
        self.connection().execute(sqlx::query(
            "INSERT INTO idempotency (token_id, key_digest, request_digest, created, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(attempt.token)
        .bind(digest_bytes(attempt.key))
        .bind(digest_bytes(attempt.request))
        .bind(serde_json::to_string(created).map_err(StoreError::backend)?)
        .bind(to_millis(now))).await?;
        Ok(())
    }
}
