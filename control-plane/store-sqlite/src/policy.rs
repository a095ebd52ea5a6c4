//! Versions of the policy document.

use std::collections::HashMap;

use omniflow_policy::scope::Scope;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use uuid::Uuid;

use omniflow_domain::policy::{KeyGrant, NamedKeys, PolicyVersion, ScopeHolders, StoredPolicy};

use async_trait::async_trait;
use omniflow_store::encoding::policy::{HolderSearch, add_grant, named_keys, policy_version, stored_policy};
use omniflow_store::encoding::{row_limit, saturated, to_json, to_millis};
use omniflow_store::{PolicyStore, PolicyWrites, Result, StoreError};

use crate::SqliteStore;
use crate::database::SqliteTransaction;
use crate::keys::read::ANY_UNREVOKED;

/// Number of keys that are read at a time.
const KEYS_PER_READ: usize = 5_000;
/// Identifiers in one statement; SQLite takes 32,766 values.
const IDS_PER_READ: usize = 10_000;

#[async_trait]
impl PolicyStore for SqliteStore {
    async fn policy(&self) -> Result<StoredPolicy> {
        let row = sqlx::query(
            "SELECT version, document, created_by, created_at FROM policy_versions ORDER BY version DESC LIMIT 1",
        )
        .fetch_one(&mut *self.main.reader().await?)
        .await
        .map_err(StoreError::backend)?;
        stored_policy(&row)
    }

    async fn policy_version(&self, version: u64) -> Result<Option<StoredPolicy>> {
        let row = sqlx::query(
            "SELECT version, document, created_by, created_at FROM policy_versions WHERE version = ?",
        )
        .bind(saturated(version))
        .fetch_optional(&mut *self.main.reader().await?)
        .await
        .map_err(StoreError::backend)?;
        row.map(|row| stored_policy(&row)).transpose()
    }

    async fn policy_versions(&self, below: Option<u64>, limit: usize) -> Result<Vec<PolicyVersion>> {
        let rows = sqlx::query(
            "SELECT version, created_by, created_at FROM policy_versions WHERE version < ? \
             ORDER BY version DESC LIMIT ?",
        )
        .bind(below.map_or(i64::MAX, saturated))
        .bind(row_limit(limit))
        .fetch_all(&mut *self.main.reader().await?)
        .await
        .map_err(StoreError::backend)?;
        rows.iter().map(policy_version).collect()
    }

    async fn key_grants(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, KeyGrant>> {
        let mut grants = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(IDS_PER_READ) {
            let mut query = QueryBuilder::<Sqlite>::new(
                "SELECT k.id, k.name, k.environment, k.scopes, v.version, v.imported, v.revoked_at IS NOT NULL \
                 FROM keys k JOIN key_versions v ON v.key_id = k.id WHERE k.id IN (",
            );
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
            for row in
                query.build().fetch_all(&mut *self.main.reader().await?).await.map_err(StoreError::backend)?
            {
                add_grant(&mut grants, &row)?;
            }
        }
        Ok(grants)
    }

    async fn scope_holders(&self, scopes: &[Scope], limit: usize) -> Result<Vec<ScopeHolders>> {
        scope_holders(&mut *self.main.reader().await?, scopes, limit).await
    }

    async fn imported_keys(&self, limit: usize) -> Result<NamedKeys> {
        imported_keys(&mut *self.main.reader().await?, limit).await
    }
}

#[async_trait]
impl PolicyWrites for SqliteTransaction {
    async fn insert_policy(&mut self, policy: &StoredPolicy) -> Result<()> {
        let document = to_json(&policy.document, "a policy")?;
        sqlx::query(
            "INSERT INTO policy_versions (version, document, created_by, created_at) VALUES (?, ?, ?, ?)",
        )
        .bind(policy.version.cast_signed())
        .bind(document)
        .bind(policy.created_by.clone())
        .bind(to_millis(policy.created_at))
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn scope_holders(&mut self, scopes: &[Scope], limit: usize) -> Result<Vec<ScopeHolders>> {
        scope_holders(self.connection(), scopes, limit).await
    }

    async fn imported_keys(&mut self, limit: usize) -> Result<NamedKeys> {
        imported_keys(self.connection(), limit).await
    }
}

async fn scope_holders(
    connection: &mut SqliteConnection,
    scopes: &[Scope],
    limit: usize,
) -> Result<Vec<ScopeHolders>> {
    let mut search = HolderSearch::new(scopes, limit);
    while let Some(before) = search.before() {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT id, name, scopes FROM keys k WHERE id < ");
        query.push_bind(before).push(" AND ").push(ANY_UNREVOKED).push(" ORDER BY id DESC LIMIT ");
        let query = query.push_bind(row_limit(KEYS_PER_READ)).build();
        let rows = query.fetch_all(&mut *connection).await.map_err(StoreError::backend)?;
        if rows.is_empty() {
            break;
        }
        search.add(&rows)?;
    }
    Ok(search.holders())
}

async fn imported_keys(connection: &mut SqliteConnection, limit: usize) -> Result<NamedKeys> {
    let rows = sqlx::query(
        "SELECT DISTINCT k.id, k.name FROM key_versions v JOIN keys k ON k.id = v.key_id \
         WHERE v.imported = 1 AND v.revoked_at IS NULL ORDER BY k.id DESC LIMIT ?",
    )
    .bind(row_limit(limit + 1))
    .fetch_all(connection)
    .await
    .map_err(StoreError::backend)?;
    named_keys(&rows, limit)
}
