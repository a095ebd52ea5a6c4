//! Versions of the policy document, and which keys depend on them.

use std::collections::HashMap;

use async_trait::async_trait;
use omniflow_domain::policy::{KeyGrant, NamedKeys, PolicyVersion, ScopeHolders, StoredPolicy};
use omniflow_policy::scope::Scope;
use uuid::Uuid;

use crate::error::Result;

/// Reads policy versions.
#[async_trait]
pub trait PolicyStore {
    /// The effective version.
    async fn policy(&self) -> Result<StoredPolicy>;

    /// One version.
    async fn policy_version(&self, version: u64) -> Result<Option<StoredPolicy>>;

    /// Returns up to `limit` versions below `below`, newest first, without their documents.
    async fn policy_versions(&self, below: Option<u64>, limit: usize) -> Result<Vec<PolicyVersion>>;

    /// The permissions of these keys. Keys that do not exist are left out.
    async fn key_grants(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, KeyGrant>>;

    /// As [`PolicyWrites::scope_holders`], outside a transaction.
    async fn scope_holders(&self, scopes: &[Scope], limit: usize) -> Result<Vec<ScopeHolders>>;

    /// As [`PolicyWrites::imported_keys`], outside a transaction.
    async fn imported_keys(&self, limit: usize) -> Result<NamedKeys>;
}

/// Writes policy versions.
#[async_trait]
pub trait PolicyWrites {
    /// Inserts a version. Fails if its number is taken.
    async fn insert_policy(&mut self, policy: &StoredPolicy) -> Result<()>;

    /// For each of these scopes that an unrevoked key has: up to `limit` names of such keys, newest first.
    async fn scope_holders(&mut self, scopes: &[Scope], limit: usize) -> Result<Vec<ScopeHolders>>;

    /// Up to `limit` names of keys with an unrevoked imported version, newest first.
    async fn imported_keys(&mut self, limit: usize) -> Result<NamedKeys>;
}
