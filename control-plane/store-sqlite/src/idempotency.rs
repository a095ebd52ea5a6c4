//! Create requests with an idempotency key.

use omniflow_policy::time::UnixMillis;

use async_trait::async_trait;
use omniflow_domain::idempotency::Created;
use omniflow_store::encoding::access;
use omniflow_store::encoding::{digest_bytes, to_millis};
use omniflow_store::{IdempotencyWrites, IdempotentRequest, RecordedRequest, Result, StoreError};

use crate::database::SqliteTransaction;

#[async_trait]
impl IdempotencyWrites for SqliteTransaction {
    async fn recorded_request(
        &mut self,
        attempt: &IdempotentRequest,
        since: UnixMillis,
    ) -> Result<Option<RecordedRequest>> {
        let row = sqlx::query(
            "SELECT request_digest, created FROM idempotency WHERE token_id = ? AND key_digest = ? AND created_at >= ?",
        )
        .bind(attempt.token)
        .bind(digest_bytes(attempt.key))
        .bind(to_millis(since))
        .fetch_optional(self.connection())
        .await
        .map_err(StoreError::backend)?;
        row.as_ref().map(access::recorded_request).transpose()
    }

    async fn record_request(
        &mut self,
        attempt: &IdempotentRequest,
        created: &Created,
        now: UnixMillis,
        since: UnixMillis,
    ) -> Result<()> {
        sqlx::query("DELETE FROM idempotency WHERE created_at < ?")
            .bind(to_millis(since))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        sqlx::query(
            "INSERT INTO idempotency (token_id, key_digest, request_digest, created, created_at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(attempt.token)
        .bind(digest_bytes(attempt.key))
        .bind(digest_bytes(attempt.request))
        .bind(serde_json::to_string(created).map_err(StoreError::backend)?)
        .bind(to_millis(now))
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }
}
