//! All versions of all keys, as gateways need them. Reading them is the longest step of a start.
//!
//! Reading a single row from SQLite takes a few microseconds, most of them for its separate columns. So thousands of rows are
//! concatenated into one value: digest and identifier, which have fixed lengths, and texts, which end with separators that
//! none of them contains.

use std::collections::HashMap;

use omniflow_policy::key::Environment;
use omniflow_policy::snapshot::{ImageBuilder, ProfileNumber, ProfiledCredential};
use omniflow_store::encoding::{Columns, allowlist, digest, from_millis, parsed, rate_limit, scopes};
use omniflow_store::{CredentialsError, Result, StoreError};
use sqlx::SqliteConnection;
use uuid::Uuid;

use omniflow_domain::name::Name;

/// Keys whose versions are read as one value: some 600 KB.
const KEYS_AT_ONCE: i64 = 4_096;
const DIGEST: usize = 32;
const ID: usize = 16;
/// Separates two texts of a row: the ASCII unit separator.
const UNIT: u8 = 0x1f;
/// Ends each row: the ASCII record separator.
const RECORD: u8 = 0x1e;

/// Keys in the order of the file, each with its versions. By default SQLite reads versions in the order of their digests and
/// looks up a key for each, which takes ten times as long. The most common values are left out.
const QUERY: &str = "SELECT CAST(group_concat(\
       v.digest || k.id || k.name || x'1f' \
       || CASE v.version WHEN 1 THEN '' ELSE v.version END || x'1f' \
       || CASE WHEN v.revoked_at IS NULL THEN '' ELSE 'r' END || x'1f' \
       || CASE WHEN k.expires_at IS NULL AND v.expires_at IS NULL THEN '' ELSE \
          min(ifnull(k.expires_at, v.expires_at), ifnull(v.expires_at, k.expires_at)) END || x'1f' \
       || k.environment || x'1f' || k.scopes || x'1f' || k.ip_allowlist || x'1f' \
       || ifnull(k.per_minute, '') || x'1f' || ifnull(k.per_hour, '') || x'1f' || ifnull(k.burst, '') || x'1e', \
     '') AS BLOB) FROM keys k CROSS JOIN key_versions v ON v.key_id = k.id WHERE k.rowid BETWEEN ? AND ?";

/// Adds rows to a builder.
struct Reader<'b> {
    builder: &'b mut ImageBuilder,
    /// Settings by their text in rows, which many keys share.
    profiles: HashMap<Vec<u8>, (Environment, ProfileNumber)>,
}

/// Counts the versions of all keys.
pub(crate) async fn version_count(connection: &mut SqliteConnection) -> Result<usize> {
    let row = sqlx::query("SELECT count(*) FROM key_versions")
        .fetch_one(connection)
        .await
        .map_err(StoreError::backend)?;
    Ok(usize::try_from(row.column::<i64>(0)?).unwrap_or_default())
}

/// Adds a share of the keys to a builder: of every `parts` blocks of keys, the one with the number `part`.
pub(crate) async fn read_credentials(
    connection: &mut SqliteConnection,
    part: usize,
    parts: usize,
    builder: &mut ImageBuilder,
) -> std::result::Result<(), CredentialsError> {
    let last: Option<i64> = sqlx::query("SELECT max(rowid) FROM keys")
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::backend)?
        .column(0)?;
    let mut reader = Reader { builder, profiles: HashMap::new() };
    let step = KEYS_AT_ONCE as usize;
    for first in (0..=last.unwrap_or(0)).step_by(step).skip(part).step_by(parts.max(1)) {
        let row = sqlx::query(QUERY)
            .bind(first)
            .bind(first + KEYS_AT_ONCE - 1)
            .fetch_one(&mut *connection)
            .await
            .map_err(StoreError::backend)?;
        reader.read(row.column::<Option<&[u8]>>(0)?.unwrap_or_default())?;
    }
    Ok(())
}

// === impl Reader ===

impl Reader<'_> {
    fn read(&mut self, mut rows: &[u8]) -> std::result::Result<(), CredentialsError> {
        while !rows.is_empty() {
            let damaged = || StoreError::Corrupt("a key");
            let (fixed, rest) = rows.split_at_checked(DIGEST + ID).ok_or_else(damaged)?;
            let end = rest.iter().position(|byte| *byte == RECORD).ok_or_else(damaged)?;
            let (texts, after) = rest.split_at_checked(end).ok_or_else(damaged)?;
            self.add(fixed, texts)?;
            rows = after.get(1..).unwrap_or_default();
        }
        Ok(())
    }

    fn add(&mut self, fixed: &[u8], texts: &[u8]) -> std::result::Result<(), CredentialsError> {
        let (of_version, id) = fixed.split_at_checked(DIGEST).ok_or(StoreError::Corrupt("a digest"))?;
        // The settings are the fifth field and all behind it.
        let mut fields = texts.splitn(5, |byte| *byte == UNIT);
        let mut text = |what| {
            let field = fields.next().ok_or(StoreError::Corrupt(what))?;
            std::str::from_utf8(field).map_err(|_| StoreError::Corrupt(what))
        };
        let name = text("the name of a key")?;
        if !Name::is_valid(name) {
            return Err(StoreError::Corrupt("the name of a key").into());
        }
        let version = match text("a version")? {
            "" => 1,
            number => parsed(number, "a version")?,
        };
        let revoked = !text("a revocation")?.is_empty();
        let not_after = match text("an expiry")? {
            "" => None,
            millis => Some(from_millis(parsed(millis, "an expiry")?)),
        };
        let (environment, profile) = self.profile(text("a rate limit")?)?;
        Ok(self.builder.add(&ProfiledCredential {
            digest: digest(of_version)?,
            key_id: Uuid::from_slice(id).map_err(|_| StoreError::Corrupt("an identifier"))?,
            version,
            environment,
            revoked,
            not_after,
            name,
            profile,
        })?)
    }

    fn profile(&mut self, settings: &str) -> Result<(Environment, ProfileNumber)> {
        if let Some(known) = self.profiles.get(settings.as_bytes()) {
            return Ok(*known);
        }
        let fields: Vec<&str> = settings.split(char::from(UNIT)).collect();
        let &[environment, of_scopes, networks, per_minute, per_hour, burst] = fields.as_slice() else {
            return Err(StoreError::Corrupt("the settings of a key"));
        };
        let limit = |text: &str| match text {
            "" => Ok(None),
            number => parsed(number, "a rate limit").map(Some),
        };
        let limit = rate_limit(limit(per_minute)?, limit(per_hour)?, limit(burst)?)?;
        let number = self.builder.profile(limit, &scopes(of_scopes)?, &allowlist(networks)?);
        let new = (parsed(environment, "an environment")?, number);
        self.profiles.insert(settings.as_bytes().to_vec(), new);
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::digest::Digest;
    use omniflow_policy::limit::RateLimit;
    use omniflow_policy::snapshot::{Credential, Image};
    use omniflow_policy::time::UnixMillis;

    use super::*;
    use crate::SqliteStore;
    use omniflow_domain::key::{Key, KeyVersion};
    use omniflow_policy::policy::PolicyDocument;
    use omniflow_store::contract::fixtures::{self, START};
    use omniflow_store::{KeyFilter, KeyStore};

    /// Keys of all kinds: with everything and nothing, with several versions, some of which have ended.
    fn variant(model: &Key, number: u32) -> Key {
        let mut key = model.clone();
        key.id = Uuid::from_u128(u128::from(number) << 64);
        key.name = format!("key {number}").parse().unwrap();
        key.environment = if number.is_multiple_of(3) { Environment::Test } else { Environment::Live };
        key.scopes =
            scopes(["", "contacts:read", "contacts:read tickets:write"][number as usize % 3]).unwrap();
        key.ip_allowlist = allowlist(["", "10.0.0.0/8 2001:db8::/32"][number as usize % 2]).unwrap();
        key.rate_limit = match number % 4 {
            0 => RateLimit { per_minute: None, per_hour: Some(7), burst: None },
            1 => RateLimit { per_minute: Some(60), per_hour: None, burst: Some(3) },
            _ => RateLimit { per_minute: Some(60), per_hour: Some(600), burst: None },
        };
        key.expires_at = number.is_multiple_of(5).then_some(UnixMillis(START + u64::from(number)));
        let version = |version: u16| KeyVersion {
            version,
            digest: Digest::of(format!("{number} {version}").as_bytes()),
            expires_at: (u32::from(version) + number).is_multiple_of(4).then_some(UnixMillis(START + 1_000)),
            revoked_at: (u32::from(version) + number).is_multiple_of(7).then_some(UnixMillis(START)),
            ..model.versions[0].clone()
        };
        key.versions = (1..=1 + (number % 3) as u16).map(version).collect();
        key
    }

    #[tokio::test]
    async fn image_of_the_rows_is_that_of_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        // More than are read as one value.
        let keys: Vec<Key> = (1..=6_000).map(|number| variant(&fixtures::key(1), number)).collect();
        fixtures::insert_keys(&store, &keys).await;
        let keys = store.keys(&KeyFilter::default(), None, 9_999).await.unwrap();
        assert_eq!(keys.len(), 6_000);
        let credentials: Vec<Credential> = keys.iter().flat_map(Key::credentials).collect();
        let policy = PolicyDocument::default();
        let expected = Image::build(Uuid::nil(), 1, &policy, credentials).unwrap();
        let mut builder = ImageBuilder::new(store.version_count().await.unwrap());
        store.read_credentials(0, 1, &mut builder).await.unwrap();
        let pages = 0..builder.segment_count();
        let pages = ImageBuilder::segments(&[builder], Uuid::nil(), 1, pages).unwrap();
        let image = Image::from_segments(Uuid::nil(), 1, policy.to_json().into(), pages).unwrap();
        assert_eq!(image.manifest(), expected.manifest());
        assert_eq!(image.len(), expected.len());
        assert!(image.segments().eq(expected.segments()));
    }

    #[test]
    fn malformed_row_is_corrupt() {
        let fixed = [7; DIGEST + ID];
        let read = |texts: &str| {
            let mut builder = ImageBuilder::new(1);
            let rows = [&fixed[..], texts.as_bytes()].concat();
            Reader { builder: &mut builder, profiles: HashMap::new() }.read(&rows).is_ok()
        };
        let whole = "ci\u{1f}\u{1f}\u{1f}\u{1f}live\u{1f}contacts:read\u{1f}\u{1f}60\u{1f}\u{1f}\u{1e}";
        assert!(read(whole));
        assert!(!read(""), "a row that ends too soon");
        for (text, with) in
            [("ci", ""), ("ci", "c\u{1f}i"), ("live", "prod"), ("60", ""), ("60", "-1"), ("\u{1e}", "")]
        {
            assert!(!read(&whole.replacen(text, with, 1)), "{text:?} as {with:?}");
        }
        assert!(!read(&format!("{whole}rest")));
    }
}
