//! Tokens of the control plane.

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use sqlx::SqliteConnection;
use uuid::Uuid;

use omniflow_domain::token::Token;

use async_trait::async_trait;
use omniflow_store::encoding::access;
use omniflow_store::encoding::{Columns, digest, digest_bytes, joined_patterns, row_limit, to_millis};
use omniflow_store::{Result, StoreError, TokenStore, TokenWrites};

use crate::SqliteStore;
use crate::database::SqliteTransaction;

impl SqliteStore {
    /// Reads the digests of all tokens, for [`TokenStore::token_by_digest`].
    pub(crate) async fn load_token_digests(&self) -> Result<()> {
        let rows = sqlx::query("SELECT digest FROM tokens")
            .fetch_all(&mut *self.main.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        let digests: Result<Vec<Digest>> = rows.iter().map(|row| digest(row.column(0)?)).collect();
        self.main.token_digests().extend(digests?);
        Ok(())
    }
}

#[async_trait]
impl TokenStore for SqliteStore {
    async fn token_by_digest(&self, digest: Digest) -> Result<Option<Token>> {
        if !self.main.token_digests().may_contain(&digest) {
            return Ok(None);
        }
        let row = sqlx::query(
            "SELECT id, name, role, gateways, digest, created_by, created_at, expires_at FROM tokens WHERE digest = ?",
        )
        .bind(digest_bytes(digest))
        .fetch_optional(&mut *self.main.reader().await?)
        .await
        .map_err(StoreError::backend)?;
        row.map(|row| access::token(&row)).transpose()
    }

    async fn token(&self, id: Uuid) -> Result<Option<Token>> {
        find(&mut *self.main.reader().await?, id).await
    }

    async fn tokens(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<Token>> {
        let rows = sqlx::query(
            "SELECT id, name, role, gateways, digest, created_by, created_at, expires_at FROM tokens \
             WHERE id < ? ORDER BY id DESC LIMIT ?",
        )
        .bind(before.unwrap_or(Uuid::max()))
        .bind(row_limit(limit))
        .fetch_all(&mut *self.main.reader().await?)
        .await
        .map_err(StoreError::backend)?;
        rows.iter().map(access::token).collect()
    }
}

#[async_trait]
impl TokenWrites for SqliteTransaction {
    async fn insert_token(&mut self, token: &Token) -> Result<bool> {
        self.token_inserted(token.digest);
        let result = sqlx::query(
            "INSERT INTO tokens (id, name, role, gateways, digest, created_by, created_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
        )
        .bind(token.id)
        .bind(token.name.as_str().to_owned())
        .bind(token.role.as_str())
        .bind(joined_patterns(&token.gateways))
        .bind(digest_bytes(token.digest))
        .bind(token.created_by.clone())
        .bind(to_millis(token.created_at))
        .bind(token.expires_at.map(to_millis))
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(result.rows_affected() == 1)
    }

    async fn token(&mut self, id: Uuid) -> Result<Option<Token>> {
        find(self.connection(), id).await
    }

    async fn delete_token(&mut self, id: Uuid) -> Result<()> {
        let row = sqlx::query("DELETE FROM tokens WHERE id = ? RETURNING digest")
            .bind(id)
            .fetch_optional(self.connection())
            .await
            .map_err(StoreError::backend)?;
        if let Some(row) = row {
            self.token_deleted(row.column(0)?);
        }
        Ok(())
    }

    async fn owner_tokens_until(&mut self, end: UnixMillis) -> Result<i64> {
        let row = sqlx::query(
            "SELECT count(*) FROM tokens WHERE role = 'owner' AND (expires_at IS NULL OR expires_at >= ?)",
        )
        .bind(to_millis(end))
        .fetch_one(self.connection())
        .await
        .map_err(StoreError::backend)?;
        row.column(0)
    }
}

async fn find(connection: &mut SqliteConnection, id: Uuid) -> Result<Option<Token>> {
    let row = sqlx::query(
        "SELECT id, name, role, gateways, digest, created_by, created_at, expires_at FROM tokens WHERE id = ?",
    )
    .bind(id)
    .fetch_optional(connection)
    .await
    .map_err(StoreError::backend)?;
    row.map(|row| access::token(&row)).transpose()
}

#[cfg(test)]
mod tests {
    use omniflow_store::contract::fixtures::{insert_tokens, token};
    use omniflow_store::{Store, TokenStore};

    use crate::SqliteStore;

    #[tokio::test]
    async fn digests_without_a_token_are_answered_without_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        insert_tokens(&store, &[token(1), token(2)]).await;
        drop(store);
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        transaction.delete_token(token(2).id).await.unwrap();
        drop(transaction);
        assert_eq!(store.token_by_digest(token(2).digest).await.unwrap(), Some(token(2)), "rolled back");
        let mut transaction = store.begin().await.unwrap();
        transaction.delete_token(token(2).id).await.unwrap();
        transaction.commit().await.unwrap();
        store.close().await;
        for unknown in [token(2), token(3)] {
            assert_eq!(store.token_by_digest(unknown.digest).await.unwrap(), None);
        }
        assert!(store.token_by_digest(token(1).digest).await.is_err(), "the database decides on the others");
    }
}
