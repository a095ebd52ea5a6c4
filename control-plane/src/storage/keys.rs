//! Writing keys, and the values they are made of as columns.

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Row, Sqlite};
use uuid::Uuid;

use super::{Change, KeyReference, Result, StorageError, key_list};
use crate::model::key::{Key, KeyVersion};

/// Rows in one statement; 12 values each stay below SQLite's limit of 32,766.
const ROWS_PER_STATEMENT: usize = 500;

impl Change<'_> {
    /// Adds keys with their versions. Names and digests must be free.
    pub async fn insert_keys(&mut self, keys: &[Key]) -> Result<()> {
        for keys in keys.chunks(ROWS_PER_STATEMENT) {
            let mut statement = QueryBuilder::<Sqlite>::new(
                "INSERT INTO keys (id, name, environment, scopes, per_minute, per_hour, burst, ip_allowlist, \
                 description, created_by, created_at, expires_at) ",
            );
            statement.push_values(keys, |mut row, key| {
                row.push_bind(key.id)
                    .push_bind(key.name.clone())
                    .push_bind(key.environment.as_str())
                    .push_bind(key.scopes.joined())
                    .push_bind(key.rate_limit.per_minute)
                    .push_bind(key.rate_limit.per_hour)
                    .push_bind(key.rate_limit.burst)
                    .push_bind(joined_networks(key))
                    .push_bind(key.description.clone())
                    .push_bind(key.created_by.clone())
                    .push_bind(to_millis(key.created_at))
                    .push_bind(key.expires_at.map(to_millis));
            });
            statement.build().execute(self.connection()).await?;
        }
        let versions: Vec<(Uuid, &KeyVersion)> =
            keys.iter().flat_map(|key| key.versions.iter().map(|version| (key.id, version))).collect();
        for versions in versions.chunks(ROWS_PER_STATEMENT) {
            let mut statement = QueryBuilder::<Sqlite>::new(
                "INSERT INTO key_versions (key_id, version, digest, hint, created_at, expires_at, revoked_at) ",
            );
            statement.push_values(versions, |mut row, (key_id, version)| {
                row.push_bind(*key_id)
                    .push_bind(version.version)
                    .push_bind(version.digest.as_bytes().to_vec())
                    .push_bind(version.hint.clone())
                    .push_bind(to_millis(version.created_at))
                    .push_bind(version.expires_at.map(to_millis))
                    .push_bind(version.revoked_at.map(to_millis));
            });
            statement.build().execute(self.connection()).await?;
        }
        Ok(())
    }

    /// The key as this transaction sees it.
    pub async fn key(&mut self, reference: &KeyReference) -> Result<Option<Key>> {
        key_list::find(self.connection(), reference).await
    }

    /// Whether a key has this name.
    pub async fn key_name_is_taken(&mut self, name: &str) -> Result<bool> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM keys WHERE name = ?)")
            .bind(name.to_owned())
            .fetch_one(self.connection())
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Writes what may change in a key: scopes, limits, addresses, expiry and description.
    pub async fn update_key(&mut self, key: &Key) -> Result<()> {
        sqlx::query(
            "UPDATE keys SET scopes = ?, per_minute = ?, per_hour = ?, burst = ?, ip_allowlist = ?, description = ?, \
             expires_at = ? WHERE id = ?",
        )
        .bind(key.scopes.joined())
        .bind(key.rate_limit.per_minute)
        .bind(key.rate_limit.per_hour)
        .bind(key.rate_limit.burst)
        .bind(joined_networks(key))
        .bind(key.description.clone())
        .bind(key.expires_at.map(to_millis))
        .bind(key.id)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Revokes one version at `now`. One that is revoked already keeps its time.
    pub async fn revoke_version(&mut self, key: Uuid, version: u16, now: UnixMillis) -> Result<()> {
        sqlx::query(
            "UPDATE key_versions SET revoked_at = ? WHERE key_id = ? AND version = ? AND revoked_at IS NULL",
        )
        .bind(to_millis(now))
        .bind(key)
        .bind(version)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

fn joined_networks(key: &Key) -> String {
    let networks: Vec<String> = key.ip_allowlist.networks().iter().map(ToString::to_string).collect();
    networks.join(" ")
}

/// An instant as a column. What lies beyond the column's range is its end, some 292 million years ahead.
pub(super) fn to_millis(time: UnixMillis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

pub(super) fn from_millis(millis: i64) -> UnixMillis {
    UnixMillis(u64::try_from(millis).unwrap_or_default())
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest> {
    bytes.try_into().map(Digest::from_bytes).map_err(|_| StorageError::Corrupt("a digest"))
}
