//! Tokens of the control plane.

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use omniflow_domain::token::Token;

use async_trait::async_trait;
use omniflow_store::encoding::access;
use omniflow_store::encoding::{Columns, digest_bytes, joined_patterns, row_limit, to_millis};
use omniflow_store::{Result, TokenStore, TokenWrites};

use crate::PostgresStore;
use crate::connection::Connection;
use crate::transaction::PostgresTransaction;

#[async_trait]
impl TokenStore for PostgresStore {
    async fn token_by_digest(&self, digest: Digest) -> Result<Option<Token>> {
        // Always a query: another process may have inserted the token a moment ago.
        let row = self.database.reader().await?.optional_row(sqlx::query(
            "SELECT id, name, role, gateways, digest, created_by, created_at, expires_at FROM tokens WHERE digest = $1",
        )
        .bind(digest_bytes(digest))).await?;
        row.map(|row| access::token(&row)).transpose()
    }

    async fn token(&self, id: Uuid) -> Result<Option<Token>> {
        find(&mut *self.database.reader().await?, id).await
    }

    async fn tokens(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<Token>> {
        let rows = self
            .database
            .reader()
            .await?
            .rows(
                sqlx::query(
                    "SELECT id, name, role, gateways, digest, created_by, created_at, expires_at FROM tokens \
             WHERE id < $1 ORDER BY id DESC LIMIT $2",
                )
                .bind(before.unwrap_or(Uuid::max()))
                .bind(row_limit(limit)),
            )
            .await?;
        rows.iter().map(access::token).collect()
    }
}

#[async_trait]
impl TokenWrites for PostgresTransaction {
    async fn insert_token(&mut self, token: &Token) -> Result<bool> {
        let result = self.connection().execute(sqlx::query(
            "INSERT INTO tokens (id, name, role, gateways, digest, created_by, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO NOTHING",
        )
        .bind(token.id)
        .bind(token.name.as_str().to_owned())
        .bind(token.role.as_str())
        .bind(joined_patterns(&token.gateways))
        .bind(digest_bytes(token.digest))
        .bind(token.created_by.clone())
        .bind(to_millis(token.created_at))
        .bind(token.expires_at.map(to_millis))).await?;
        Ok(result == 1)
    }

    async fn token(&mut self, id: Uuid) -> Result<Option<Token>> {
        find(self.connection(), id).await
    }

    async fn delete_token(&mut self, id: Uuid) -> Result<()> {
        self.connection().execute(sqlx::query("DELETE FROM tokens WHERE id = $1").bind(id)).await?;
        Ok(())
    }

    async fn owner_tokens_until(&mut self, end: UnixMillis) -> Result<i64> {
        let row = self.connection().row(sqlx::query(
            "SELECT count(*) FROM tokens WHERE role = 'owner' AND (expires_at IS NULL OR expires_at >= $1)",
        )
        .bind(to_millis(end))).await?;
        row.column(0)
    }
}

async fn find(connection: &mut Connection, id: Uuid) -> Result<Option<Token>> {
    let row = connection.optional_row(sqlx::query(
        "SELECT id, name, role, gateways, digest, created_by, created_at, expires_at FROM tokens WHERE id = $1",
    )
    .bind(id)).await?;
    row.map(|row| access::token(&row)).transpose()
}
