//! The versions of the policy document.

use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::time::UnixMillis;
use sqlx::Row;

use super::columns::{from_millis, to_millis};
use super::{Database, Result, StorageError, Transaction};

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

impl Database {
    /// The version in force.
    pub(crate) async fn policy(&self) -> Result<StoredPolicy> {
        let row = sqlx::query(
            "SELECT version, document, created_by, created_at FROM policy_versions ORDER BY version DESC LIMIT 1",
        )
        .fetch_one(&mut *self.reader().await?)
        .await?;
        Ok(StoredPolicy {
            version: row.try_get::<i64, _>(0)?.cast_unsigned(),
            document: serde_json::from_str(row.try_get(1)?).map_err(|_| StorageError::Corrupt("a policy"))?,
            created_by: row.try_get(2)?,
            created_at: from_millis(row.try_get(3)?),
        })
    }
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
}
