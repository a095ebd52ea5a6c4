//! Keys and their versions.

use omniflow_domain::key::{Key, KeyStatus, KeyVersion};
use omniflow_policy::key::Environment;
use uuid::Uuid;

use super::{Columns, allowlist, parsed, rate_limit, scopes};
use crate::error::Result;

/// Collects keys from joined rows, in which the versions of a key are consecutive. Columns: those of [`Key`] up to
/// `revision` in the order id, name, environment, scopes, the three limits, IP allowlist, description, `created_by`,
/// `created_at`, `expires_at`, revision; behind them those of [`KeyVersion`] in its own order.
pub fn gather<B, R: Columns<B>>(rows: &[R]) -> Result<Vec<Key>> {
    let mut keys: Vec<Key> = Vec::new();
    for row in rows {
        let id: Uuid = row.column(0)?;
        let version = version(row)?;
        match keys.last_mut() {
            Some(key) if key.id == id => key.versions.push(version),
            _ => keys.push(key(row, id, version)?),
        }
    }
    Ok(keys)
}

fn key<B>(row: &impl Columns<B>, id: Uuid, version: KeyVersion) -> Result<Key> {
    Ok(Key {
        id,
        name: parsed(row.column(1)?, "the name of a key")?,
        environment: parsed(row.column(2)?, "an environment")?,
        scopes: scopes(row.column(3)?)?,
        rate_limit: rate_limit(row.column(4)?, row.column(5)?, row.column(6)?)?,
        ip_allowlist: allowlist(row.column(7)?)?,
        description: row.column(8)?,
        created_by: row.column(9)?,
        created_at: row.column(10)?,
        expires_at: row.column(11)?,
        revision: row.column(12)?,
        versions: vec![version],
    })
}

fn version<B>(row: &impl Columns<B>) -> Result<KeyVersion> {
    Ok(KeyVersion {
        version: row.column(13)?,
        digest: row.column(14)?,
        hint: row.column(15)?,
        created_at: row.column(16)?,
        expires_at: row.column(17)?,
        revoked_at: row.column(18)?,
        imported: row.column(19)?,
    })
}

/// How many keys of an environment have a status. Columns: environment, status, count.
pub fn key_count<B>(row: &impl Columns<B>) -> Result<(Environment, KeyStatus, u64)> {
    Ok((parsed(row.column(0)?, "an environment")?, parsed(row.column(1)?, "a status")?, row.column(2)?))
}
