//! Writes keys.

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use omniflow_domain::key::{Key, KeyVersion};
use omniflow_domain::name::Name;

use async_trait::async_trait;
use omniflow_domain::key::KeyReference;
use omniflow_store::encoding::{Columns, digest_bytes, joined_networks, to_millis};
use omniflow_store::{KeyWrites, Result};

use super::read::find;
use crate::text::storable;
use crate::transaction::PostgresTransaction;

/// Rows in one statement. With 13 values each they stay below the protocol's limit of 65,535.
const ROWS_PER_STATEMENT: usize = 500;

#[async_trait]
impl KeyWrites for PostgresTransaction {
    async fn key(&mut self, reference: &KeyReference) -> Result<Option<Key>> {
        find(self.connection(), reference).await
    }

    async fn digest_is_taken(&mut self, digest: Digest) -> Result<bool> {
        let row = self
            .connection()
            .row(
                sqlx::query("SELECT EXISTS (SELECT 1 FROM key_versions WHERE digest = $1)")
                    .bind(digest_bytes(digest)),
            )
            .await?;
        row.column(0)
    }

    async fn key_name_is_taken(&mut self, name: &Name) -> Result<bool> {
        let row = self
            .connection()
            .row(
                sqlx::query("SELECT EXISTS (SELECT 1 FROM keys WHERE name = $1)")
                    .bind(name.as_str().to_owned()),
            )
            .await?;
        row.column(0)
    }

    async fn insert_keys(&mut self, keys: &[Key]) -> Result<()> {
        for keys in keys.chunks(ROWS_PER_STATEMENT) {
            let mut statement = QueryBuilder::<Postgres>::new(
                "INSERT INTO keys (id, name, environment, scopes, per_minute, per_hour, burst, ip_allowlist, \
                 description, created_by, created_at, expires_at, revision) ",
            );
            statement.push_values(keys, |mut row, key| {
                row.push_bind(key.id)
                    .push_bind(key.name.as_str().to_owned())
                    .push_bind(key.environment.as_str())
                    .push_bind(key.scopes.joined())
                    .push_bind(key.rate_limit.per_minute.map(i64::from))
                    .push_bind(key.rate_limit.per_hour.map(i64::from))
                    .push_bind(key.rate_limit.burst.map(i64::from))
                    .push_bind(joined_networks(&key.ip_allowlist))
                    .push_bind(key.description.as_deref().map(storable))
                    .push_bind(key.created_by.clone())
                    .push_bind(to_millis(key.created_at))
                    .push_bind(key.expires_at.map(to_millis))
                    .push_bind(key.revision.cast_signed());
            });
            self.connection().execute(statement.build()).await?;
        }
        let versions: Vec<(Uuid, &KeyVersion)> =
            keys.iter().flat_map(|key| key.versions.iter().map(|version| (key.id, version))).collect();
        self.insert_versions(&versions).await
    }

    async fn insert_versions(&mut self, versions: &[(Uuid, &KeyVersion)]) -> Result<()> {
        for versions in versions.chunks(ROWS_PER_STATEMENT) {
            let mut statement = QueryBuilder::<Postgres>::new(
                "INSERT INTO key_versions (key_id, version, digest, hint, created_at, expires_at, revoked_at, imported) ",
            );
            statement.push_values(versions, |mut row, (key_id, version)| {
                row.push_bind(*key_id)
                    .push_bind(i32::from(version.version))
                    .push_bind(digest_bytes(version.digest))
                    .push_bind(version.hint.clone())
                    .push_bind(to_millis(version.created_at))
                    .push_bind(version.expires_at.map(to_millis))
                    .push_bind(version.revoked_at.map(to_millis))
                    .push_bind(version.imported);
            });
            self.connection().execute(statement.build()).await?;
        }
        Ok(())
    }

    async fn advance_revision(&mut self, key: &mut Key) -> Result<()> {
        key.revision += 1;
        self.connection()
            .execute(
                sqlx::query("UPDATE keys SET revision = $1 WHERE id = $2")
                    .bind(key.revision.cast_signed())
                    .bind(key.id),
            )
            .await?;
        Ok(())
    }

    async fn update_key(&mut self, key: &Key) -> Result<()> {
        self.connection().execute(sqlx::query(
            "UPDATE keys SET scopes = $1, per_minute = $2, per_hour = $3, burst = $4, ip_allowlist = $5, description = $6, \
             expires_at = $7 WHERE id = $8",
        )
        .bind(key.scopes.joined())
        .bind(key.rate_limit.per_minute.map(i64::from))
        .bind(key.rate_limit.per_hour.map(i64::from))
        .bind(key.rate_limit.burst.map(i64::from))
        .bind(joined_networks(&key.ip_allowlist))
        .bind(key.description.as_deref().map(storable))
        .bind(key.expires_at.map(to_millis))
        .bind(key.id)).await?;
        Ok(())
    }

    async fn end_version(&mut self, key: Uuid, version: u16, end: UnixMillis) -> Result<()> {
        self.connection()
            .execute(
                sqlx::query("UPDATE key_versions SET expires_at = $1 WHERE key_id = $2 AND version = $3")
                    .bind(to_millis(end))
                    .bind(key)
                    .bind(i32::from(version)),
            )
            .await?;
        Ok(())
    }

    async fn revoke_version(&mut self, key: Uuid, version: u16, now: UnixMillis) -> Result<()> {
        self.connection().execute(sqlx::query(
            "UPDATE key_versions SET revoked_at = $1 WHERE key_id = $2 AND version = $3 AND revoked_at IS NULL",
        )
        .bind(to_millis(now))
        .bind(key)
        .bind(i32::from(version))).await?;
        Ok(())
    }
}
