//! Calls of a key by address, method, endpoint and reason.

use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use omniflow_domain::key_use::CallGroup;
use omniflow_store::encoding::request_log::call_group;
use omniflow_store::encoding::{saturated, to_millis};
use omniflow_store::{Result, StoreError};

use crate::database::Database;

/// One scan over the calls of the key, in the order of the index.
const QUERY: &str = "SELECT source_ip, method, endpoint, reason, sum(calls), min(first), max(time) FROM \
     (SELECT source_ip, method, endpoint, reason, time, coalesce(aggregated_calls, 1) AS calls, \
     coalesce(first_time, time) AS first FROM audit_records WHERE key_id = ? AND time >= ? \
     ORDER BY time DESC LIMIT ?) GROUP BY source_ip, method, endpoint, reason";

impl Database {
    pub(crate) async fn call_groups(
        &self,
        key: Uuid,
        from: UnixMillis,
        limit: u64,
    ) -> Result<Vec<CallGroup>> {
        let rows = sqlx::query(QUERY)
            .bind(key)
            .bind(to_millis(from))
            .bind(saturated(limit))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        rows.iter().map(call_group).collect()
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Row, SqlSafeStr};

    use super::*;
    use crate::SqliteStore;

    #[tokio::test]
    async fn only_the_calls_of_the_key_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let mut reader = store.audit.reader().await.unwrap();
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {QUERY}")).into_sql_str();
        let rows =
            sqlx::query(explain).bind(Uuid::nil()).bind(0).bind(1).fetch_all(&mut *reader).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.try_get(3).unwrap()).collect();
        assert!(plan.iter().any(|step| step.contains("audit_records_key (key_id=? AND time>?)")), "{plan:?}");
    }
}
