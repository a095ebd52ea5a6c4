//! Create requests with an idempotency key.

use omniflow_policy::time::UnixMillis;
use sqlx::Row;

use async_trait::async_trait;
use omniflow_store::{Attempt, DoneAttempt, IdempotencyWrites, Result};

use crate::columns::{digest, digest_bytes, to_millis};
use crate::database::SqliteTransaction;

#[async_trait]
impl IdempotencyWrites for SqliteTransaction {
    async fn done_attempt(&mut self, attempt: &Attempt, since: UnixMillis) -> Result<Option<DoneAttempt>> {
        let row = sqlx::query(
            "SELECT request_digest, location FROM idempotency WHERE token_id = ? AND key_digest = ? AND created_at >= ?",
        )
        .bind(attempt.token)
        .bind(digest_bytes(attempt.key))
        .bind(to_millis(since))
        .fetch_optional(self.connection())
        .await?;
        row.map(|row| Ok(DoneAttempt { request: digest(row.try_get(0)?)?, location: row.try_get(1)? }))
            .transpose()
    }

    async fn insert_attempt(
        &mut self,
        attempt: &Attempt,
        location: &str,
        now: UnixMillis,
        since: UnixMillis,
    ) -> Result<()> {
        sqlx::query("DELETE FROM idempotency WHERE created_at < ?")
            .bind(to_millis(since))
            .execute(self.connection())
            .await?;
        sqlx::query(
            "INSERT INTO idempotency (token_id, key_digest, request_digest, location, created_at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(attempt.token)
        .bind(digest_bytes(attempt.key))
        .bind(digest_bytes(attempt.request))
        .bind(location.to_owned())
        .bind(to_millis(now))
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
