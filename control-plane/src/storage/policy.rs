//! The versions of the policy document.

use std::collections::HashMap;

use omniflow_policy::key::Environment;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::scope::Scope;
use omniflow_policy::time::UnixMillis;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};
use uuid::Uuid;

use super::columns::{from_millis, parsed, row_limit, saturated, to_millis};
use super::key_read::ANY_UNREVOKED;
use super::{Database, Result, StorageError, Transaction};

/// Keys that are looked through at once.
const KEYS_PER_READ: usize = 5_000;
/// Identifiers in one statement; SQLite takes 32,766 values.
const IDS_PER_READ: usize = 10_000;

/// A version of the policy.
#[derive(Clone, Debug)]
pub(crate) struct StoredPolicy {
    /// Its number, from 1.
    pub(crate) version: u64,
    /// What it says.
    pub(crate) document: PolicyDocument,
    /// The name of the token with which it was written.
    pub(crate) created_by: String,
    /// When it was written.
    pub(crate) created_at: UnixMillis,
}

/// A scope, and some of the keys that have it.
#[derive(Clone, Debug)]
pub(crate) struct ScopeHolders {
    /// The scope.
    pub(crate) scope: Scope,
    /// The names of keys that have it, newest first.
    pub(crate) names: Vec<String>,
    /// Whether there are more of them.
    pub(crate) more: bool,
}

/// What a key may do, apart from when and from where.
#[derive(Clone, Debug)]
pub(crate) struct KeyGrant {
    /// The key's name.
    pub(crate) name: String,
    /// Its environment.
    pub(crate) environment: Environment,
    /// Its scopes, joined by single spaces.
    pub(crate) scopes: String,
}

impl Database {
    /// The version in force.
    pub(crate) async fn policy(&self) -> Result<StoredPolicy> {
        let newest = self.policy_versions(None, 1).await?;
        newest.into_iter().next().ok_or(StorageError::Corrupt("no policy"))
    }

    /// One version.
    pub(crate) async fn policy_version(&self, version: u64) -> Result<Option<StoredPolicy>> {
        let below = version.checked_add(1);
        let found = self.policy_versions(below, 1).await?.into_iter().next();
        Ok(found.filter(|stored| stored.version == version))
    }

    /// At most `limit` versions, newest first, beginning below `below`.
    pub(crate) async fn policy_versions(
        &self,
        below: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StoredPolicy>> {
        let rows = sqlx::query(
            "SELECT version, document, created_by, created_at FROM policy_versions WHERE version < ? \
             ORDER BY version DESC LIMIT ?",
        )
        .bind(below.map_or(i64::MAX, saturated))
        .bind(row_limit(limit))
        .fetch_all(&mut *self.reader().await?)
        .await?;
        rows.iter().map(read).collect()
    }

    /// What these keys may do; those that there are not are left out.
    pub(crate) async fn key_grants(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, KeyGrant>> {
        let mut grants = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(IDS_PER_READ) {
            let mut query =
                QueryBuilder::<Sqlite>::new("SELECT id, name, environment, scopes FROM keys WHERE id IN (");
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
            for row in query.build().fetch_all(&mut *self.reader().await?).await? {
                let environment = parsed(row.try_get(2)?, "an environment")?;
                let grant = KeyGrant { name: row.try_get(1)?, environment, scopes: row.try_get(3)? };
                grants.insert(row.try_get(0)?, grant);
            }
        }
        Ok(grants)
    }
}

fn read(row: &SqliteRow) -> Result<StoredPolicy> {
    Ok(StoredPolicy {
        version: row.try_get::<i64, _>(0)?.cast_unsigned(),
        document: serde_json::from_str(row.try_get(1)?).map_err(|_| StorageError::Corrupt("a policy"))?,
        created_by: row.try_get(2)?,
        created_at: from_millis(row.try_get(3)?),
    })
}

impl Transaction<'_> {
    /// Adds a version.
    pub(crate) async fn insert_policy(&mut self, policy: &StoredPolicy) -> Result<()> {
        let document =
            serde_json::to_string(&policy.document).map_err(|_| StorageError::Corrupt("a policy"))?;
        sqlx::query(
            "INSERT INTO policy_versions (version, document, created_by, created_at) VALUES (?, ?, ?, ?)",
        )
        .bind(policy.version.cast_signed())
        .bind(document)
        .bind(policy.created_by.clone())
        .bind(to_millis(policy.created_at))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// One of these scopes that a key has which is not revoked, with at most `limit` names of such keys.
    pub(crate) async fn holders(&mut self, scopes: &[Scope], limit: usize) -> Result<Option<ScopeHolders>> {
        let mut wanted: HashMap<&str, &Scope> = scopes.iter().map(|scope| (scope.as_str(), scope)).collect();
        let mut found: Option<ScopeHolders> = None;
        let mut before = Uuid::max();
        while !wanted.is_empty() {
            let mut query = QueryBuilder::<Sqlite>::new("SELECT id, name, scopes FROM keys k WHERE id < ");
            query.push_bind(before).push(" AND ").push(ANY_UNREVOKED).push(" ORDER BY id DESC LIMIT ");
            let rows = query.push_bind(row_limit(KEYS_PER_READ)).build().fetch_all(self.connection()).await?;
            let Some(oldest) = rows.last() else { break };
            before = oldest.try_get(0)?;
            for row in &rows {
                let held = row.try_get::<&str, _>(2)?.split(' ').find_map(|scope| wanted.get(scope));
                let Some(scope) = held.map(|scope| (*scope).clone()) else { continue };
                // The first that is found is told of, and no other.
                wanted.retain(|_, wanted| **wanted == scope);
                let holders =
                    found.get_or_insert_with(|| ScopeHolders { scope, names: Vec::new(), more: false });
                if holders.names.len() == limit {
                    holders.more = true;
                    return Ok(found);
                }
                holders.names.push(row.try_get(1)?);
            }
        }
        Ok(found)
    }
}
