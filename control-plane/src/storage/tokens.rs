//! Tokens for the control plane.

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::keys::{digest, from_millis, to_millis};
use super::{Change, Database, Result, StorageError};
use crate::model::token::{Role, Token};

impl Database {
    /// The token with this digest, valid or not.
    pub async fn token_by_digest(&self, digest: Digest) -> Result<Option<Token>> {
        let row = sqlx::query(
            "SELECT id, name, role, digest, created_by, created_at, expires_at FROM tokens WHERE digest = ?",
        )
        .bind(digest.as_bytes().to_vec())
        .fetch_optional(&mut *self.reader().await?)
        .await?;
        row.map(|row| read(&row)).transpose()
    }

    /// At most `limit` tokens, newest first, beginning after `before`.
    pub async fn tokens(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<Token>> {
        let rows = sqlx::query(
            "SELECT id, name, role, digest, created_by, created_at, expires_at FROM tokens \
             WHERE id < ? ORDER BY id DESC LIMIT ?",
        )
        .bind(before.unwrap_or(Uuid::max()))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *self.reader().await?)
        .await?;
        rows.iter().map(read).collect()
    }
}

impl Change<'_> {
    /// Adds a token unless another has its name. Tells whether it did.
    pub async fn insert_token(&mut self, token: &Token) -> Result<bool> {
        let result = sqlx::query(
            "INSERT INTO tokens (id, name, role, digest, created_by, created_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
        )
        .bind(token.id)
        .bind(token.name.clone())
        .bind(token.role.as_str())
        .bind(token.digest.as_bytes().to_vec())
        .bind(token.created_by.clone())
        .bind(to_millis(token.created_at))
        .bind(token.expires_at.map(to_millis))
        .execute(self.connection())
        .await?;
        Ok(result.rows_affected() == 1)
    }

    /// Deletes a token. Tells whether there was one.
    pub async fn delete_token(&mut self, id: Uuid) -> Result<bool> {
        let result =
            sqlx::query("DELETE FROM tokens WHERE id = ?").bind(id).execute(self.connection()).await?;
        Ok(result.rows_affected() == 1)
    }

    /// How many tokens with the role of owner are valid at `now`.
    pub async fn valid_owner_tokens(&mut self, now: UnixMillis) -> Result<i64> {
        let row = sqlx::query(
            "SELECT count(*) FROM tokens WHERE role = 'owner' AND (expires_at IS NULL OR expires_at > ?)",
        )
        .bind(to_millis(now))
        .fetch_one(self.connection())
        .await?;
        Ok(row.try_get(0)?)
    }
}

fn read(row: &SqliteRow) -> Result<Token> {
    Ok(Token {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        role: row.try_get::<&str, _>(2)?.parse::<Role>().map_err(|_| StorageError::Corrupt("a role"))?,
        digest: digest(row.try_get(3)?)?,
        created_by: row.try_get(4)?,
        created_at: from_millis(row.try_get(5)?),
        expires_at: row.try_get::<Option<i64>, _>(6)?.map(from_millis),
    })
}
