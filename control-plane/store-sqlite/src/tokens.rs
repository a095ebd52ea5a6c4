//! Tokens of the control plane.

use std::collections::HashSet;

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use omniflow_domain::token::Token;

use async_trait::async_trait;
use omniflow_store::{Result, TokenStore, TokenWrites};

use crate::SqliteStore;
use crate::columns::{digest, digest_bytes, from_millis, parsed, row_limit, to_millis};
use crate::database::SqliteTransaction;

#[async_trait]
impl TokenStore for SqliteStore {
    async fn token_by_digest(&self, digest: Digest) -> Result<Option<Token>> {
        let row = sqlx::query(
            "SELECT id, name, role, digest, created_by, created_at, expires_at FROM tokens WHERE digest = ?",
        )
        .bind(digest_bytes(digest))
        .fetch_optional(&mut *self.main.reader().await?)
        .await?;
        row.map(|row| read(&row)).transpose()
    }

    async fn token_digests(&self) -> Result<HashSet<Digest>> {
        let rows =
            sqlx::query("SELECT digest FROM tokens").fetch_all(&mut *self.main.reader().await?).await?;
        rows.iter().map(|row| digest(row.try_get(0)?)).collect()
    }

    async fn token(&self, id: Uuid) -> Result<Option<Token>> {
        find(&mut *self.main.reader().await?, id).await
    }

    async fn tokens(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<Token>> {
        let rows = sqlx::query(
            "SELECT id, name, role, digest, created_by, created_at, expires_at FROM tokens \
             WHERE id < ? ORDER BY id DESC LIMIT ?",
        )
        .bind(before.unwrap_or(Uuid::max()))
        .bind(row_limit(limit))
        .fetch_all(&mut *self.main.reader().await?)
        .await?;
        rows.iter().map(read).collect()
    }
}

#[async_trait]
impl TokenWrites for SqliteTransaction {
    async fn insert_token(&mut self, token: &Token) -> Result<bool> {
        let result = sqlx::query(
            "INSERT INTO tokens (id, name, role, digest, created_by, created_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
        )
        .bind(token.id)
        .bind(token.name.as_str().to_owned())
        .bind(token.role.as_str())
        .bind(digest_bytes(token.digest))
        .bind(token.created_by.clone())
        .bind(to_millis(token.created_at))
        .bind(token.expires_at.map(to_millis))
        .execute(self.connection())
        .await?;
        Ok(result.rows_affected() == 1)
    }

    async fn token(&mut self, id: Uuid) -> Result<Option<Token>> {
        find(self.connection(), id).await
    }

    async fn delete_token(&mut self, id: Uuid) -> Result<()> {
        sqlx::query("DELETE FROM tokens WHERE id = ?").bind(id).execute(self.connection()).await?;
        Ok(())
    }

    async fn owner_tokens_until(&mut self, end: UnixMillis) -> Result<i64> {
        let row = sqlx::query(
            "SELECT count(*) FROM tokens WHERE role = 'owner' AND (expires_at IS NULL OR expires_at >= ?)",
        )
        .bind(to_millis(end))
        .fetch_one(self.connection())
        .await?;
        Ok(row.try_get(0)?)
    }
}

async fn find(connection: &mut SqliteConnection, id: Uuid) -> Result<Option<Token>> {
    let row = sqlx::query(
        "SELECT id, name, role, digest, created_by, created_at, expires_at FROM tokens WHERE id = ?",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?;
    row.map(|row| read(&row)).transpose()
}

fn read(row: &SqliteRow) -> Result<Token> {
    Ok(Token {
        id: row.try_get(0)?,
        name: parsed(row.try_get(1)?, "the name of a token")?,
        role: parsed(row.try_get(2)?, "a role")?,
        digest: digest(row.try_get(3)?)?,
        created_by: row.try_get(4)?,
        created_at: from_millis(row.try_get(5)?),
        expires_at: row.try_get::<Option<i64>, _>(6)?.map(from_millis),
    })
}
