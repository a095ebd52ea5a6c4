//! Creates that were done, so that one that is repeated is not done twice.

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use sqlx::Row;
use uuid::Uuid;

use super::columns::{digest, digest_bytes, to_millis};
use super::{Result, Transaction};

/// A create as its caller named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    /// The caller's token: callers do not see each other's keys.
    pub(crate) token: Uuid,
    /// The SHA-256 of the `Idempotency-Key`.
    pub(crate) key: Digest,
    /// The SHA-256 of what was asked for.
    pub(crate) request: Digest,
}

/// What came of an earlier attempt under the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DoneAttempt {
    /// The SHA-256 of what was asked for then.
    pub(crate) request: Digest,
    /// The path of what was made.
    pub(crate) location: String,
}

impl Transaction<'_> {
    /// What an attempt under this key has done since `since`.
    pub(crate) async fn done_attempt(
        &mut self,
        attempt: &Attempt,
        since: UnixMillis,
    ) -> Result<Option<DoneAttempt>> {
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

    /// Notes what an attempt does, and forgets what was done before `since`.
    pub(crate) async fn insert_attempt(
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
