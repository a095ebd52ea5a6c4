//! Browser sessions.

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use omniflow_domain::session::Session;

use async_trait::async_trait;
use omniflow_store::encoding::access;
use omniflow_store::encoding::{Columns, digest_bytes, row_limit, to_millis};
use omniflow_store::{Result, SessionStore, SessionWrites, StoreError};

use crate::SqliteStore;
use crate::database::SqliteTransaction;

#[async_trait]
impl SessionStore for SqliteStore {
    async fn session(&self, wanted: Digest) -> Result<Option<Session>> {
        let row = sqlx::query("SELECT digest, token_id, created_at, seen_at FROM sessions WHERE digest = ?")
            .bind(digest_bytes(wanted))
            .fetch_optional(&mut *self.main.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        row.as_ref().map(access::session).transpose()
    }

    async fn session_count(&self, token: Uuid, over: (UnixMillis, UnixMillis)) -> Result<i64> {
        let (created, seen) = over;
        let row = sqlx::query(
            "SELECT count(*) FROM sessions WHERE token_id = ? AND created_at > ? AND seen_at > ?",
        )
        .bind(token)
        .bind(to_millis(created))
        .bind(to_millis(seen))
        .fetch_one(&mut *self.main.reader().await?)
        .await
        .map_err(StoreError::backend)?;
        row.column(0)
    }
}

#[async_trait]
impl SessionWrites for SqliteTransaction {
    async fn insert_session(&mut self, session: &Session, most: usize) -> Result<bool> {
        let inserted = sqlx::query(
            "INSERT INTO sessions (digest, token_id, created_at, seen_at) \
             SELECT ?, id, ?, ? FROM tokens WHERE id = ?",
        )
        .bind(digest_bytes(session.digest))
        .bind(to_millis(session.created_at))
        .bind(to_millis(session.seen_at))
        .bind(session.token_id)
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        sqlx::query(
            "DELETE FROM sessions WHERE digest IN \
             (SELECT digest FROM sessions WHERE token_id = ? ORDER BY seen_at DESC, created_at DESC LIMIT -1 OFFSET ?)",
        )
        .bind(session.token_id)
        .bind(row_limit(most))
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(inserted.rows_affected() == 1)
    }

    async fn see_session(&mut self, digest: Digest, now: UnixMillis) -> Result<()> {
        sqlx::query("UPDATE sessions SET seen_at = ? WHERE digest = ?")
            .bind(to_millis(now))
            .bind(digest_bytes(digest))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn delete_session(&mut self, digest: Digest) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE digest = ?")
            .bind(digest_bytes(digest))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn delete_sessions_of(&mut self, token: Uuid) -> Result<u64> {
        let deleted = sqlx::query("DELETE FROM sessions WHERE token_id = ?")
            .bind(token)
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(deleted.rows_affected())
    }

    async fn purge_sessions(&mut self, over: (UnixMillis, UnixMillis)) -> Result<()> {
        let (created, seen) = over;
        sqlx::query("DELETE FROM sessions WHERE created_at <= ? OR seen_at <= ?")
            .bind(to_millis(created))
            .bind(to_millis(seen))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }
}
