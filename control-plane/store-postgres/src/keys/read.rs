//! Reading keys: one, a filtered page, or all of them page by page.

use omniflow_policy::key::Environment;
use omniflow_policy::snapshot::ImageBuilder;
use omniflow_policy::time::UnixMillis;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use omniflow_domain::key::{Key, KeyOrder, KeyStatus};
use omniflow_domain::time::DAY_MS;

use async_trait::async_trait;
use omniflow_domain::key::KeyReference;
use omniflow_store::encoding::keys::{gather, key_count};
use omniflow_store::encoding::{Columns, row_limit, to_millis};
use omniflow_store::{CredentialsError, KeyFilter, KeyStore, Result, RotationFilter};

use super::credentials;
use crate::PostgresStore;
use crate::connection::Connection;
use crate::text::storable;
use crate::time_limit::in_time;

/// Consecutive characters of one entry of the full-text index.
const PIECE: usize = 3;
/// Maximum number of keys that are checked one by one for a text.
const FEW: i64 = 5_000;
const COLUMNS: &str = "SELECT k.id, k.name, k.environment, k.scopes, k.per_minute, k.per_hour, k.burst, \
     k.ip_allowlist, k.description, k.created_by, k.created_at, k.expires_at, k.revision, \
     v.version, v.digest, v.hint, v.created_at, v.expires_at, v.revoked_at, v.imported ";
/// SQL for the versions of the key `k` that are accepted at the instant appended to this text.
const ACCEPTED_AT: &str = " FROM key_versions a WHERE a.key_id = k.id AND a.revoked_at IS NULL AND \
     coalesce(least(a.expires_at, k.expires_at), 9223372036854775807) > ";
pub(crate) const ANY_UNREVOKED: &str =
    "EXISTS (SELECT 1 FROM key_versions u WHERE u.key_id = k.id AND u.revoked_at IS NULL)";

#[async_trait]
impl KeyStore for PostgresStore {
    async fn key_counts(&self, now: UnixMillis) -> Result<Vec<(Environment, KeyStatus, u64)>> {
        let mut query =
            QueryBuilder::<Postgres>::new("SELECT environment, CASE WHEN NOT unrevoked THEN 'revoked' ");
        query.push(
            "WHEN accepted = 0 THEN 'expired' WHEN accepted = 1 THEN 'active' ELSE 'rotating' END, count(*) ",
        );
        query.push("FROM (SELECT environment, ").push(ANY_UNREVOKED).push(" AS unrevoked, (SELECT count(*)");
        query.push(ACCEPTED_AT).push_bind(to_millis(now)).push(") AS accepted FROM keys k) GROUP BY 1, 2");
        let rows = self.database.reader().await?.rows(query.build()).await?;
        rows.iter().map(key_count).collect()
    }

    async fn key(&self, reference: &KeyReference) -> Result<Option<Key>> {
        find(&mut *self.database.reader().await?, reference).await
    }

    async fn keys(&self, filter: &KeyFilter, after: Option<Uuid>, limit: usize) -> Result<Vec<Key>> {
        in_time(self.find_keys(filter, after, limit)).await
    }

    async fn version_count(&self) -> Result<usize> {
        credentials::version_count(&mut *self.database.reader().await?).await
    }

    async fn read_credentials(
        &self,
        part: usize,
        parts: usize,
        builder: &mut ImageBuilder,
    ) -> std::result::Result<(), CredentialsError> {
        credentials::read_credentials(&mut *self.database.reader().await?, part, parts, builder).await
    }
}

impl PostgresStore {
    async fn find_keys(&self, filter: &KeyFilter, after: Option<Uuid>, limit: usize) -> Result<Vec<Key>> {
        let text = filter.text.as_deref();
        // No text of the database contains a zero byte.
        if text.is_some_and(|text| text.contains('\0')) {
            return Ok(Vec::new());
        }
        let mut scanner = self.database.scanner().await?;
        let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
        query.push("FROM (SELECT k.* FROM keys k WHERE ");
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
                .push(" AND NOT EXISTS (SELECT 1 FROM key_last_used l WHERE l.key_id = k.id AND l.last_used_at >= ")
                .push_bind(to_millis(since))
                .push(")");
        }
        if let Some((now, end)) = filter.expiring {
            query
                .push(
                    " AND coalesce((SELECT max(coalesce(least(a.expires_at, k.expires_at), 9223372036854775807))",
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
            query.push(" AND strpos(' ' || k.scopes || ' ', ").push_bind(format!(" {scope} ")).push(") > 0");
        }
        if let Some(text) = text {
            if is_rare(&mut scanner, text).await? {
                push_indexed_text(&mut query, text);
            } else {
                push_text(&mut query, text);
            }
        }
        query
            .push(" ORDER BY ")
            .push(order)
            .push(" LIMIT ")
            .push_bind(row_limit(limit))
            .push(") k JOIN key_versions v ON v.key_id = k.id ORDER BY ")
            .push(order)
            .push(", v.version");
        gather(&scanner.rows(query.build()).await?)
    }
}

/// Adds the condition that a key has this status at `now`.
fn push_status(query: &mut QueryBuilder<Postgres>, status: KeyStatus, now: UnixMillis) {
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
fn push_rotation(query: &mut QueryBuilder<Postgres>, rotation: RotationFilter) {
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
        .push("coalesce((SELECT a.created_at")
        .push(ACCEPTED_AT)
        .push_bind(to_millis(now))
        .push(" ORDER BY a.version DESC LIMIT 1) <= ")
        .push_bind(created_until.map_or(-1, to_millis))
        .push(", false)");
}

/// Adds the condition that a key contains this text in its name or description, or has a version with this hint. Fast if
/// most keys fulfil it: the page is full soon.
fn push_text(query: &mut QueryBuilder<Postgres>, text: &str) {
    let pattern = pattern(text);
    query
        .push(" AND (lower(k.name) LIKE ")
        .push_bind(pattern.clone())
        .push(" OR lower(k.description) LIKE ")
        .push_bind(pattern)
        .push(" OR k.id IN (SELECT key_id FROM key_versions WHERE hint = ")
        .push_bind(text.to_owned())
        .push("))");
}

/// The same, for texts that few keys contain: their keys come from the indexes.
fn push_indexed_text(query: &mut QueryBuilder<Postgres>, text: &str) {
    let pattern = pattern(text);
    query
        .push(" AND k.id IN (SELECT id FROM keys WHERE lower(name) LIKE ")
        .push_bind(pattern.clone())
        .push(" UNION SELECT id FROM keys WHERE lower(description) LIKE ")
        .push_bind(pattern)
        .push(" UNION SELECT key_id FROM key_versions WHERE hint = ")
        .push_bind(text.to_owned())
        .push(")");
}

/// Whether the index of consecutive characters covers a text, and few keys contain it.
async fn is_rare(scanner: &mut Connection, text: &str) -> Result<bool> {
    if text.chars().count() < PIECE {
        return Ok(false);
    }
    let counted = sqlx::query(
        "SELECT count(*) FROM (SELECT 1 FROM keys WHERE lower(name) LIKE $1 OR lower(description) LIKE $1 LIMIT $2) k",
    );
    let row = scanner.row(counted.bind(pattern(text)).bind(FEW + 1)).await?;
    Ok(row.column::<i64>(0)? <= FEW)
}

/// The pattern of a text anywhere in another one, both in lower case. Only ASCII letters have a lower case here, as in the
/// columns (collation "C").
fn pattern(text: &str) -> String {
    let escaped = text.to_ascii_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

pub(crate) async fn find(connection: &mut Connection, reference: &KeyReference) -> Result<Option<Key>> {
    let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
    query.push("FROM keys k JOIN key_versions v ON v.key_id = k.id WHERE ");
    match reference {
        KeyReference::Id(id) => query.push("k.id = ").push_bind(*id),
        KeyReference::Name(name) => query.push("k.name = ").push_bind(storable(name)),
    };
    query.push(" ORDER BY v.version");
    Ok(gather(&connection.rows(query.build()).await?)?.pop())
}
