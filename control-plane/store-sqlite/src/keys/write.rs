//! Writes keys.

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use omniflow_domain::key::{Key, KeyVersion};
use omniflow_domain::name::Name;

use async_trait::async_trait;
use omniflow_domain::key::KeyReference;
use omniflow_store::encoding::{Columns, digest_bytes, joined_networks, to_millis};
use omniflow_store::{KeyWrites, Result, StoreError};

use super::read::find;
use crate::database::SqliteTransaction;

/// Rows in one statement. With 13 values each they stay below SQLite's limit of 32,766.
const ROWS_PER_STATEMENT: usize = 500;

#[async_trait]
impl KeyWrites for SqliteTransaction {
    async fn key(&mut self, reference: &KeyReference) -> Result<Option<Key>> {
        find(self.connection(), reference).await
    }

    async fn digest_is_taken(&mut self, digest: Digest) -> Result<bool> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM key_versions WHERE digest = ?)")
            .bind(digest_bytes(digest))
            .fetch_one(self.connection())
            .await
            .map_err(StoreError::backend)?;
        row.column(0)
    }

    async fn key_name_is_taken(&mut self, name: &Name) -> Result<bool> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM keys WHERE name = ?)")
            .bind(name.as_str().to_owned())
            .fetch_one(self.connection())
            .await
            .map_err(StoreError::backend)?;
        row.column(0)
    }

    async fn insert_keys(&mut self, keys: &[Key]) -> Result<()> {
        for keys in keys.chunks(ROWS_PER_STATEMENT) {
            let mut statement = QueryBuilder::<Sqlite>::new(
                "INSERT INTO keys (id, name, environment, scopes, per_minute, per_hour, burst, ip_allowlist, \
                 description, created_by, created_at, expires_at, revision) ",
            );
            statement.push_values(keys, |mut row, key| {
                row.push_bind(key.id)
                    .push_bind(key.name.as_str().to_owned())
                    .push_bind(key.environment.as_str())
                    .push_bind(key.scopes.joined())
                    .push_bind(key.rate_limit.per_minute)
                    .push_bind(key.rate_limit.per_hour)
                    .push_bind(key.rate_limit.burst)
                    .push_bind(joined_networks(&key.ip_allowlist))
                    .push_bind(key.description.clone())
                    .push_bind(key.created_by.clone())
                    .push_bind(to_millis(key.created_at))
                    .push_bind(key.expires_at.map(to_millis))
                    .push_bind(key.revision.cast_signed());
            });
            statement.build().execute(self.connection()).await.map_err(StoreError::backend)?;
        }
        let versions: Vec<(Uuid, &KeyVersion)> =
            keys.iter().flat_map(|key| key.versions.iter().map(|version| (key.id, version))).collect();
        self.insert_versions(&versions).await
    }

    async fn insert_versions(&mut self, versions: &[(Uuid, &KeyVersion)]) -> Result<()> {
        for versions in versions.chunks(ROWS_PER_STATEMENT) {
            let mut statement = QueryBuilder::<Sqlite>::new(
                "INSERT INTO key_versions (key_id, version, digest, hint, created_at, expires_at, revoked_at, imported) ",
            );
            statement.push_values(versions, |mut row, (key_id, version)| {
                row.push_bind(*key_id)
                    .push_bind(version.version)
                    .push_bind(digest_bytes(version.digest))
                    .push_bind(version.hint.clone())
                    .push_bind(to_millis(version.created_at))
                    .push_bind(version.expires_at.map(to_millis))
                    .push_bind(version.revoked_at.map(to_millis))
                    .push_bind(version.imported);
            });
            statement.build().execute(self.connection()).await.map_err(StoreError::backend)?;
        }
        Ok(())
    }

    async fn advance_revision(&mut self, key: &mut Key) -> Result<()> {
        key.revision += 1;
        sqlx::query("UPDATE keys SET revision = ? WHERE id = ?")
            .bind(key.revision.cast_signed())
            .bind(key.id)
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn update_key(&mut self, key: &Key) -> Result<()> {
        sqlx::query(
            "UPDATE keys SET scopes = ?, per_minute = ?, per_hour = ?, burst = ?, ip_allowlist = ?, description = ?, \
             expires_at = ? WHERE id = ?",
        )
        .bind(key.scopes.joined())
        .bind(key.rate_limit.per_minute)
        .bind(key.rate_limit.per_hour)
        .bind(key.rate_limit.burst)
        .bind(joined_networks(&key.ip_allowlist))
        .bind(key.description.clone())
        .bind(key.expires_at.map(to_millis))
        .bind(key.id)
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn end_version(&mut self, key: Uuid, version: u16, end: UnixMillis) -> Result<()> {
        sqlx::query("UPDATE key_versions SET expires_at = ? WHERE key_id = ? AND version = ?")
            .bind(to_millis(end))
            .bind(key)
            .bind(version)
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn revoke_version(&mut self, key: Uuid, version: u16, now: UnixMillis) -> Result<()> {
        sqlx::query(
            "UPDATE key_versions SET revoked_at = ? WHERE key_id = ? AND version = ? AND revoked_at IS NULL",
        )
        .bind(to_millis(now))
        .bind(key)
        .bind(version)
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }
}
