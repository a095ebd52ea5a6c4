//! Reading keys: one, a filtered page, or all of them page by page.

use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::scope::Scope;
use omniflow_policy::time::UnixMillis;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::columns::{
    allowlist, digest, digest_bytes, from_millis, parsed, rate_limit, row_limit, scopes, to_millis,
};
use super::{Database, Result, Transaction};
use omniflow_domain::key::{Key, KeyOrder, KeyStatus, KeyVersion};
use omniflow_domain::name::Name;

/// By what a caller names a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyReference {
    /// By its identifier.
    Id(Uuid),
    /// By its name.
    Name(String),
}

/// Which keys a list has. The default is all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyFilter {
    /// In which order.
    pub(crate) order: KeyOrder,
    /// Those with this status, at the given instant.
    pub(crate) status: Option<(KeyStatus, UnixMillis)>,
    /// Those of this environment.
    pub(crate) environment: Option<Environment>,
    /// Those with this scope.
    pub(crate) scope: Option<Scope>,
    /// Those whose rotation is due, or those whose is not.
    pub(crate) rotation: Option<RotationFilter>,
    /// Those that were not let through at this instant or later.
    pub(crate) unused_since: Option<UnixMillis>,
    /// Those of which every version that is accepted now ends before the second instant, the first being now. Not those
    /// that have ended already.
    pub(crate) expiring: Option<(UnixMillis, UnixMillis)>,
    /// Those with this text in their name or description, in any case, or as the hint of a version.
    pub(crate) text: Option<String>,
}

/// Whether the rotation of a key is due. It is when the newest of the versions that are accepted is old.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RotationFilter {
    /// True for the keys whose rotation is due, false for all others.
    pub(crate) due: bool,
    /// The instant at which versions are accepted or not.
    pub(crate) now: UnixMillis,
    /// A version that was made at this instant or before is old; `None` if none ever is.
    pub(crate) made_until: Option<UnixMillis>,
}

/// Characters in a row that the index of texts has.
const PIECE: usize = 3;
/// Keys that are looked at one by one to see whether they have a text.
const FEW: i64 = 5_000;
const DAY_MS: u64 = 86_400_000;
const COLUMNS: &str = "SELECT k.id, k.name, k.environment, k.scopes, k.per_minute, k.per_hour, k.burst, \
     k.ip_allowlist, k.description, k.created_by, k.created_at, k.expires_at, k.revision, \
     v.version, v.digest, v.hint, v.created_at, v.expires_at, v.revoked_at, v.imported ";
/// Versions of the key `k` that are accepted at the instant that follows this text.
const ACCEPTED_AT: &str = " FROM key_versions a WHERE a.key_id = k.id AND a.revoked_at IS NULL AND \
     min(ifnull(a.expires_at, 9223372036854775807), ifnull(k.expires_at, 9223372036854775807)) > ";
pub(super) const ANY_UNREVOKED: &str =
    "EXISTS (SELECT 1 FROM key_versions u WHERE u.key_id = k.id AND u.revoked_at IS NULL)";

impl Database {
    /// How many keys there are of each environment and status, at an instant.
    pub(crate) async fn key_counts(&self, now: UnixMillis) -> Result<Vec<(Environment, KeyStatus, u64)>> {
        let mut query =
            QueryBuilder::<Sqlite>::new("SELECT environment, CASE WHEN NOT unrevoked THEN 'revoked' ");
        query.push(
            "WHEN accepted = 0 THEN 'expired' WHEN accepted = 1 THEN 'active' ELSE 'rotating' END, count(*) ",
        );
        query.push("FROM (SELECT environment, ").push(ANY_UNREVOKED).push(" AS unrevoked, (SELECT count(*)");
        query.push(ACCEPTED_AT).push_bind(to_millis(now)).push(") AS accepted FROM keys k) GROUP BY 1, 2");
        let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
        let count = |row: &SqliteRow| {
            let environment = parsed(row.try_get(0)?, "an environment")?;
            Ok((environment, parsed(row.try_get(1)?, "a status")?, row.try_get::<i64, _>(2)?.cast_unsigned()))
        };
        rows.iter().map(count).collect()
    }

    /// One key.
    pub(crate) async fn key(&self, reference: &KeyReference) -> Result<Option<Key>> {
        find(&mut *self.reader().await?, reference).await
    }

    /// At most `limit` keys in the filter's order, beginning after the key `after`.
    pub(crate) async fn keys(
        &self,
        filter: &KeyFilter,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<Key>> {
        let mut reader = self.reader().await?;
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
        // By an index in each order, so that the last page takes no longer than the first.
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
            let now = to_millis(now);
            match status {
                KeyStatus::Active => {
                    query.push(" AND 1 = (SELECT count(*)").push(ACCEPTED_AT).push_bind(now).push(")")
                }
                // Where there was never a second version, there is nothing to count.
                KeyStatus::Rotating => query
                    .push(
                        " AND EXISTS (SELECT 1 FROM key_versions s WHERE s.key_id = k.id AND s.version > 1)",
                    )
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
        if let Some(RotationFilter { due, now, made_until }) = filter.rotation {
            if let (true, Some(made_until)) = (due, made_until) {
                // No version is older than its key, but for a clock that was set back in between, and that by less than
                // a day: so keys that are too young are passed over without a look at their versions.
                let latest = UnixMillis(made_until.0.saturating_add(DAY_MS));
                query.push(" AND k.created_at <= ").push_bind(to_millis(latest));
            }
            // Nothing was made at -1.
            query
                .push(if due { " AND " } else { " AND NOT " })
                .push("ifnull((SELECT a.created_at")
                .push(ACCEPTED_AT)
                .push_bind(to_millis(now))
                .push(" ORDER BY a.version DESC LIMIT 1) <= ")
                .push_bind(made_until.map_or(-1, to_millis))
                .push(", 0)");
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
            let lower = text.to_ascii_lowercase();
            query
                .push(" AND (instr(lower(k.name), ")
                .push_bind(lower.clone())
                .push(") > 0 OR instr(lower(ifnull(k.description, '')), ")
                .push_bind(lower)
                .push(") > 0 OR k.id IN (SELECT key_id FROM key_versions WHERE hint = ")
                .push_bind(text.clone())
                .push("))");
        }
        query
            .push(" ORDER BY ")
            .push(order)
            .push(" LIMIT ")
            .push_bind(row_limit(limit))
            .push(") k JOIN key_versions v ON v.key_id = k.id ORDER BY ")
            .push(order)
            .push(", v.version");
        gather(&query.build().fetch_all(&mut *reader).await?)
    }
}

/// What finds a text in the index of names and descriptions, and perhaps some keys that do not have it, if those are few.
/// Where many have it, the newest keys are soon gone through; a text of less than three characters is not in the index.
async fn few(reader: &mut SqliteConnection, text: &str) -> Result<Option<String>> {
    let characters: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = characters
        .windows(PIECE)
        .map(|piece| format!("\"{}\"", piece.iter().collect::<String>().replace('"', "\"\"")))
        .collect();
    // The index ends a text where a zero is.
    if pieces.is_empty() || text.contains('\0') {
        return Ok(None);
    }
    let pieces = pieces.join(" AND ");
    let row = sqlx::query("SELECT count(*) FROM (SELECT 1 FROM key_texts WHERE key_texts MATCH ? LIMIT ?)")
        .bind(pieces.clone())
        .bind(FEW + 1)
        .fetch_one(reader)
        .await?;
    let found: i64 = row.try_get(0)?;
    Ok((found <= FEW).then_some(pieces))
}

impl Transaction<'_> {
    /// The key as this transaction sees it.
    pub(crate) async fn key(&mut self, reference: &KeyReference) -> Result<Option<Key>> {
        find(self.connection(), reference).await
    }

    /// Whether a version of a key has this digest.
    pub(crate) async fn digest_is_taken(&mut self, digest: Digest) -> Result<bool> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM key_versions WHERE digest = ?)")
            .bind(digest_bytes(digest))
            .fetch_one(self.connection())
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Whether a key has this name.
    pub(crate) async fn key_name_is_taken(&mut self, name: &Name) -> Result<bool> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM keys WHERE name = ?)")
            .bind(name.as_str().to_owned())
            .fetch_one(self.connection())
            .await?;
        Ok(row.try_get(0)?)
    }
}

async fn find(connection: &mut SqliteConnection, reference: &KeyReference) -> Result<Option<Key>> {
    let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
    query.push("FROM keys k JOIN key_versions v ON v.key_id = k.id WHERE ");
    match reference {
        KeyReference::Id(id) => query.push("k.id = ").push_bind(*id),
        KeyReference::Name(name) => query.push("k.name = ").push_bind(name.clone()),
    };
    query.push(" ORDER BY v.version");
    Ok(gather(&query.build().fetch_all(connection).await?)?.pop())
}

/// Makes keys of the joined rows, in which the versions of a key follow each other.
fn gather(rows: &[SqliteRow]) -> Result<Vec<Key>> {
    let mut keys: Vec<Key> = Vec::new();
    for row in rows {
        let id: Uuid = row.try_get(0)?;
        let version = read_version(row)?;
        match keys.last_mut() {
            Some(key) if key.id == id => key.versions.push(version),
            _ => keys.push(read_key(row, id, version)?),
        }
    }
    Ok(keys)
}

fn read_key(row: &SqliteRow, id: Uuid, version: KeyVersion) -> Result<Key> {
    Ok(Key {
        id,
        name: parsed(row.try_get(1)?, "the name of a key")?,
        environment: parsed(row.try_get(2)?, "an environment")?,
        scopes: scopes(row.try_get(3)?)?,
        rate_limit: rate_limit(row.try_get(4)?, row.try_get(5)?, row.try_get(6)?)?,
        ip_allowlist: allowlist(row.try_get(7)?)?,
        description: row.try_get(8)?,
        created_by: row.try_get(9)?,
        created_at: from_millis(row.try_get(10)?),
        expires_at: row.try_get::<Option<i64>, _>(11)?.map(from_millis),
        revision: row.try_get::<i64, _>(12)?.cast_unsigned(),
        versions: vec![version],
    })
}

fn read_version(row: &SqliteRow) -> Result<KeyVersion> {
    Ok(KeyVersion {
        version: row.try_get(13)?,
        digest: digest(row.try_get(14)?)?,
        hint: row.try_get(15)?,
        created_at: from_millis(row.try_get(16)?),
        expires_at: row.try_get::<Option<i64>, _>(17)?.map(from_millis),
        revoked_at: row.try_get::<Option<i64>, _>(18)?.map(from_millis),
        imported: row.try_get(19)?,
    })
}

// === impl KeyReference ===

impl From<&str> for KeyReference {
    fn from(text: &str) -> Self {
        Uuid::parse_str(text).map_or_else(|_| Self::Name(text.to_owned()), Self::Id)
    }
}
