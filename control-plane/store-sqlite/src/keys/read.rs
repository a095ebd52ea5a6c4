//! Reading keys: one, a filtered page, or all of them page by page.

use omniflow_policy::key::Environment;
use omniflow_policy::snapshot::ImageBuilder;
use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use uuid::Uuid;

use omniflow_domain::key::{Key, KeyOrder, KeyStatus};
use omniflow_domain::time::DAY_MS;

use async_trait::async_trait;
use omniflow_domain::key::KeyReference;
use omniflow_store::encoding::keys::{gather, key_count};
use omniflow_store::encoding::{Columns, row_limit, to_millis};
use omniflow_store::{CredentialsError, KeyFilter, KeyStore, Result, RotationFilter, StoreError};

use super::credentials;
use crate::SqliteStore;
use crate::scanner::in_time;

/// Consecutive characters of one entry of the full-text index.
const PIECE: usize = 3;
/// Maximum number of keys that are checked one by one for a text.
const FEW: i64 = 5_000;
const COLUMNS: &str = "SELECT k.id, k.name, k.environment, k.scopes, k.per_minute, k.per_hour, k.burst, \
     k.ip_allowlist, k.description, k.created_by, k.created_at, k.expires_at, k.revision, \
     v.version, v.digest, v.hint, v.created_at, v.expires_at, v.revoked_at, v.imported ";
/// SQL for the versions of the key `k` that are accepted at the instant appended to this text.
const ACCEPTED_AT: &str = " FROM key_versions a WHERE a.key_id = k.id AND a.revoked_at IS NULL AND \
     min(ifnull(a.expires_at, 9223372036854775807), ifnull(k.expires_at, 9223372036854775807)) > ";
pub(crate) const ANY_UNREVOKED: &str =
    "EXISTS (SELECT 1 FROM key_versions u WHERE u.key_id = k.id AND u.revoked_at IS NULL)";

#[async_trait]
impl KeyStore for SqliteStore {
    async fn key_counts(&self, now: UnixMillis) -> Result<Vec<(Environment, KeyStatus, u64)>> {
        let mut query =
            QueryBuilder::<Sqlite>::new("SELECT environment, CASE WHEN NOT unrevoked THEN 'revoked' ");
        query.push(
            "WHEN accepted = 0 THEN 'expired' WHEN accepted = 1 THEN 'active' ELSE 'rotating' END, count(*) ",
        );
        query.push("FROM (SELECT environment, ").push(ANY_UNREVOKED).push(" AS unrevoked, (SELECT count(*)");
        query.push(ACCEPTED_AT).push_bind(to_millis(now)).push(") AS accepted FROM keys k) GROUP BY 1, 2");
        let rows =
            query.build().fetch_all(&mut *self.main.reader().await?).await.map_err(StoreError::backend)?;
        rows.iter().map(key_count).collect()
    }

    async fn key(&self, reference: &KeyReference) -> Result<Option<Key>> {
        find(&mut *self.main.reader().await?, reference).await
    }

    async fn keys(&self, filter: &KeyFilter, after: Option<Uuid>, limit: usize) -> Result<Vec<Key>> {
        in_time(self.find_keys(filter, after, limit)).await
    }

    async fn version_count(&self) -> Result<usize> {
        credentials::version_count(&mut *self.main.reader().await?).await
    }

    async fn read_credentials(
        &self,
        part: usize,
        parts: usize,
        builder: &mut ImageBuilder,
    ) -> std::result::Result<(), CredentialsError> {
        credentials::read_credentials(&mut *self.main.reader().await?, part, parts, builder).await
    }
}

impl SqliteStore {
    async fn find_keys(&self, filter: &KeyFilter, after: Option<Uuid>, limit: usize) -> Result<Vec<Key>> {
        let mut reader = self.main.scanner().await?;
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("FROM (SELECT k.* FROM ");
        if let Some(text) = &filter.text
            && let Some(pieces) = few(&mut reader, text).await?
        {
            query
                .push("(SELECT rowid AS place FROM key_texts WHERE key_texts MATCH ")
                .push_bind(pieces)
                .push(
                    " UNION SELECT n.rowid FROM key_versions h JOIN keys n ON n.id = h.key_id WHERE h.hint = ",
                )
                .push_bind(text.clone())
                .push(") found CROSS JOIN keys k ON k.rowid = found.place");
        } else {
            query.push("keys k");
        }
        query.push(" WHERE ");
        // Each order has an index, so that the last page takes no longer than the first.
        let order = match filter.order {
            KeyOrder::Newest => "k.id DESC",
            KeyOrder::Oldest => "k.id",
            KeyOrder::Name => "k.name",
            KeyOrder::NameReversed => "k.name DESC",
        };
        match (filter.order, after) {
            (KeyOrder::Newest, after) => query.push("k.id < ").push_bind(after.unwrap_or(Uuid::max())),
            (KeyOrder::Oldest, after) => query.push("k.id > ").push_bind(after.unwrap_or(Uuid::nil())),
            (_, None) => query.push("true"),
            // Names never change.
            (KeyOrder::Name, Some(after)) => {
                query.push("k.name > (SELECT name FROM keys WHERE id = ").push_bind(after).push(")")
            }
            (KeyOrder::NameReversed, Some(after)) => {
                query.push("k.name < (SELECT name FROM keys WHERE id = ").push_bind(after).push(")")
            }
        };
        if let Some((status, now)) = filter.status {
            push_status(&mut query, status, now);
        }
        if let Some(rotation) = filter.rotation {
            push_rotation(&mut query, rotation);
        }
        if let Some(since) = filter.unused_since {
            query
                .push(" AND NOT EXISTS (SELECT 1 FROM audit.key_last_used l WHERE l.key_id = k.id AND l.last_used_at >= ")
                .push_bind(to_millis(since))
                .push(")");
        }
        if let Some((now, end)) = filter.expiring {
            query
                .push(
                    " AND ifnull((SELECT max(min(ifnull(a.expires_at, 9223372036854775807), \
                      ifnull(k.expires_at, 9223372036854775807)))",
                )
                .push(ACCEPTED_AT)
                .push_bind(to_millis(now))
                .push("), 9223372036854775807) < ")
                .push_bind(to_millis(end));
        }
        if let Some(environment) = filter.environment {
            query.push(" AND k.environment = ").push_bind(environment.as_str());
        }
        if let Some(scope) = &filter.scope {
            query.push(" AND instr(' ' || k.scopes || ' ', ").push_bind(format!(" {scope} ")).push(") > 0");
        }
        if let Some(text) = &filter.text {
            push_text(&mut query, text);
        }
        query
            .push(" ORDER BY ")
            .push(order)
            .push(" LIMIT ")
            .push_bind(row_limit(limit))
            .push(") k JOIN key_versions v ON v.key_id = k.id ORDER BY ")
            .push(order)
            .push(", v.version");
        gather(&query.build().fetch_all(&mut *reader).await.map_err(StoreError::backend)?)
    }
}

/// Adds the condition that a key has this status at `now`.
fn push_status(query: &mut QueryBuilder<Sqlite>, status: KeyStatus, now: UnixMillis) {
    let now = to_millis(now);
    match status {
        KeyStatus::Active => {
            query.push(" AND 1 = (SELECT count(*)").push(ACCEPTED_AT).push_bind(now).push(")")
        }
        // Keys that never had a second version need no count.
        KeyStatus::Rotating => query
            .push(" AND EXISTS (SELECT 1 FROM key_versions s WHERE s.key_id = k.id AND s.version > 1)")
            .push(" AND 1 < (SELECT count(*)")
            .push(ACCEPTED_AT)
            .push_bind(now)
            .push(")"),
        KeyStatus::Revoked => query.push(" AND NOT ").push(ANY_UNREVOKED),
        KeyStatus::Expired => query
            .push(" AND 0 = (SELECT count(*)")
            .push(ACCEPTED_AT)
            .push_bind(now)
            .push(") AND ")
            .push(ANY_UNREVOKED),
    };
}

/// Adds the condition that the newest accepted version of a key is due for rotation, or not.
fn push_rotation(query: &mut QueryBuilder<Sqlite>, rotation: RotationFilter) {
    let RotationFilter { due, now, created_until } = rotation;
    if let (true, Some(created_until)) = (due, created_until) {
        // No version is older than its key, unless the clock was set back by less than a day. Keys that are too
        // young are skipped without reading their versions.
        let latest = UnixMillis(created_until.0.saturating_add(DAY_MS));
        query.push(" AND k.created_at <= ").push_bind(to_millis(latest));
    }
    // Nothing was created at -1.
    query
        .push(if due { " AND " } else { " AND NOT " })
        .push("ifnull((SELECT a.created_at")
        .push(ACCEPTED_AT)
        .push_bind(to_millis(now))
        .push(" ORDER BY a.version DESC LIMIT 1) <= ")
        .push_bind(created_until.map_or(-1, to_millis))
        .push(", 0)");
}

/// Adds the condition that a key contains this text in its name or description, or has a version with this hint.
fn push_text(query: &mut QueryBuilder<Sqlite>, text: &str) {
    let lower = text.to_ascii_lowercase();
    query
        .push(" AND (instr(lower(k.name), ")
        .push_bind(lower.clone())
        .push(") > 0 OR instr(lower(ifnull(k.description, '')), ")
        .push_bind(lower)
        .push(") > 0 OR k.id IN (SELECT key_id FROM key_versions WHERE hint = ")
        .push_bind(text.to_owned())
        .push("))");
}

/// The query that finds a text in the full-text index, if it matches few keys. It may also match some keys without the text.
/// `None` if a scan of the newest keys is faster, or if the text has less than three characters, which the index does not
/// cover.
async fn few(reader: &mut SqliteConnection, text: &str) -> Result<Option<String>> {
    let characters: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = characters
        .windows(PIECE)
        .map(|piece| format!("\"{}\"", piece.iter().collect::<String>().replace('"', "\"\"")))
        .collect();
    // The index ends a text at a zero byte.
    if pieces.is_empty() || text.contains('\0') {
        return Ok(None);
    }
    let pieces = pieces.join(" AND ");
    let row = sqlx::query("SELECT count(*) FROM (SELECT 1 FROM key_texts WHERE key_texts MATCH ? LIMIT ?)")
        .bind(pieces.clone())
        .bind(FEW + 1)
        .fetch_one(reader)
        .await
        .map_err(StoreError::backend)?;
    let found: i64 = row.column(0)?;
    Ok((found <= FEW).then_some(pieces))
}

pub(crate) async fn find(connection: &mut SqliteConnection, reference: &KeyReference) -> Result<Option<Key>> {
    let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
    query.push("FROM keys k JOIN key_versions v ON v.key_id = k.id WHERE ");
    match reference {
        KeyReference::Id(id) => query.push("k.id = ").push_bind(*id),
        KeyReference::Name(name) => query.push("k.name = ").push_bind(name.clone()),
    };
    query.push(" ORDER BY v.version");
    Ok(gather(&query.build().fetch_all(connection).await.map_err(StoreError::backend)?)?.pop())
}
