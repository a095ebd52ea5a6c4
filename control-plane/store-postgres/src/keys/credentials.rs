//! All versions of all keys, as gateways need them. Reading them is the longest step of a start.

use std::collections::HashMap;

use omniflow_domain::name::Name;
use omniflow_policy::key::Environment;
use omniflow_policy::snapshot::{ImageBuilder, ProfileNumber, ProfiledCredential};
use omniflow_store::encoding::{Columns, allowlist, parsed, rate_limit, scopes};
use omniflow_store::{CredentialsError, Result, StoreError};
use sqlx::postgres::PgRow;

use crate::connection::Connection;

/// Keys whose versions are read by one statement, which takes a few milliseconds.
const KEYS_AT_ONCE: i64 = 4_096;

/// One row for each version. The settings, which many keys share, are one text.
const QUERY: &str = "SELECT v.digest, k.id, k.name, v.version, v.revoked_at IS NOT NULL, \
     least(k.expires_at, v.expires_at), \
     concat_ws(E'\\x1f', k.environment, k.scopes, k.ip_allowlist, \
       coalesce(k.per_minute::text, ''), coalesce(k.per_hour::text, ''), coalesce(k.burst::text, '')), \
     k.environment, k.scopes, k.ip_allowlist, k.per_minute, k.per_hour, k.burst \
     FROM keys k JOIN key_versions v ON v.key_id = k.id WHERE k.place BETWEEN $1 AND $2";

/// Adds rows to a builder.
struct Reader<'b> {
    builder: &'b mut ImageBuilder,
    /// Settings by their text in rows.
    profiles: HashMap<String, (Environment, ProfileNumber)>,
}

/// Counts the versions of all keys.
pub(crate) async fn version_count(connection: &mut Connection) -> Result<usize> {
    let row = connection.row(sqlx::query("SELECT count(*) FROM key_versions")).await?;
    Ok(usize::try_from(row.column::<i64>(0)?).unwrap_or_default())
}

/// Adds a share of the keys to a builder: of every `parts` blocks of keys, the one with the number `part`.
pub(crate) async fn read_credentials(
    connection: &mut Connection,
    part: usize,
    parts: usize,
    builder: &mut ImageBuilder,
) -> std::result::Result<(), CredentialsError> {
    let last = connection.row(sqlx::query("SELECT max(place) FROM keys")).await?;
    let last: Option<i64> = last.column(0)?;
    let mut reader = Reader { builder, profiles: HashMap::new() };
    let step = KEYS_AT_ONCE as usize;
    for first in (0..=last.unwrap_or(0)).step_by(step).skip(part).step_by(parts.max(1)) {
        let rows = connection.rows(sqlx::query(QUERY).bind(first).bind(first + KEYS_AT_ONCE - 1)).await?;
        for row in &rows {
            reader.add(row)?;
        }
    }
    Ok(())
}

// === impl Reader ===

impl Reader<'_> {
    fn add(&mut self, row: &PgRow) -> std::result::Result<(), CredentialsError> {
        let name: &str = row.column(2)?;
        if !Name::is_valid(name) {
            return Err(StoreError::Corrupt("the name of a key").into());
        }
        let (environment, profile) = self.profile(row)?;
        Ok(self.builder.add(&ProfiledCredential {
            digest: row.column(0)?,
            key_id: row.column(1)?,
            version: row.column(3)?,
            environment,
            revoked: row.column(4)?,
            not_after: row.column(5)?,
            name,
            profile,
        })?)
    }

    fn profile(&mut self, row: &PgRow) -> Result<(Environment, ProfileNumber)> {
        let settings: &str = row.column(6)?;
        if let Some(known) = self.profiles.get(settings) {
            return Ok(*known);
        }
        let limit = rate_limit(row.column(10)?, row.column(11)?, row.column(12)?)?;
        let number = self.builder.profile(limit, &scopes(row.column(8)?)?, &allowlist(row.column(9)?)?);
        let new = (parsed(row.column(7)?, "an environment")?, number);
        self.profiles.insert(settings.to_owned(), new);
        Ok(new)
    }
}
