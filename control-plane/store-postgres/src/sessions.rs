//! Browser sessions.

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use omniflow_domain::session::Session;

use async_trait::async_trait;
use omniflow_store::encoding::access;
use omniflow_store::encoding::{Columns, digest_bytes, row_limit, to_millis};
use omniflow_store::{Result, SessionStore, SessionWrites};

use crate::PostgresStore;
use crate::transaction::PostgresTransaction;

#[async_trait]
impl SessionStore for PostgresStore {
    async fn session(&self, wanted: Digest) -> Result<Option<Session>> {
        let row = self
            .database
            .reader()
            .await?
            .optional_row(
                sqlx::query("SELECT digest, token_id, created_at, seen_at FROM sessions WHERE digest = $1")
                    .bind(digest_bytes(wanted)),
            )
            .await?;
        row.as_ref().map(access::session).transpose()
    }

    async fn session_count(&self, token: Uuid, over: (UnixMillis, UnixMillis)) -> Result<i64> {
        let (created, seen) = over;
        let row = self
            .database
            .reader()
            .await?
            .row(
                sqlx::query(
                    "SELECT count(*) FROM sessions WHERE token_id = $1 AND created_at > $2 AND seen_at > $3",
                )
                .bind(token)
                .bind(to_millis(created))
                .bind(to_millis(seen)),
            )
            .await?;
        row.column(0)
    }
}

#[async_trait]
impl SessionWrites for PostgresTransaction {
    async fn insert_session(&mut self, session: &Session, most: usize) -> Result<bool> {
        let inserted = self
            .connection()
            .execute(
                sqlx::query(
                    "INSERT INTO sessions (digest, token_id, created_at, seen_at) \
             SELECT $1, id, $2, $3 FROM tokens WHERE id = $4",
                )
                .bind(digest_bytes(session.digest))
                .bind(to_millis(session.created_at))
                .bind(to_millis(session.seen_at))
                .bind(session.token_id),
            )
            .await?;
        self.connection().execute(sqlx::query(
            "DELETE FROM sessions WHERE digest IN \
             (SELECT digest FROM sessions WHERE token_id = $1 ORDER BY seen_at DESC, created_at DESC OFFSET $2)",
        )
        .bind(session.token_id)
        .bind(row_limit(most))).await?;
        Ok(inserted == 1)
    }

    async fn see_session(&mut self, digest: Digest, now: UnixMillis) -> Result<()> {
        self.connection()
            .execute(
                sqlx::query("UPDATE sessions SET seen_at = $1 WHERE digest = $2")
                    .bind(to_millis(now))
                    .bind(digest_bytes(digest)),
            )
            .await?;
        Ok(())
    }

    async fn delete_session(&mut self, digest: Digest) -> Result<()> {
        self.connection()
            .execute(sqlx::query("DELETE FROM sessions WHERE digest = $1").bind(digest_bytes(digest)))
            .await?;
        Ok(())
    }

    async fn delete_sessions_of(&mut self, token: Uuid) -> Result<u64> {
        let deleted = self
            .connection()
            .execute(sqlx::query("DELETE FROM sessions WHERE token_id = $1").bind(token))
            .await?;
        Ok(deleted)
    }

    async fn purge_sessions(&mut self, over: (UnixMillis, UnixMillis)) -> Result<()> {
        let (created, seen) = over;
        self.connection()
            .execute(
                sqlx::query("DELETE FROM sessions WHERE created_at <= $1 OR seen_at <= $2")
                    .bind(to_millis(created))
                    .bind(to_millis(seen)),
            )
            .await?;
        Ok(())
    }
}
