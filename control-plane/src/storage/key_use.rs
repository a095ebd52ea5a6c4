//! How a key was used: its audited calls in groups.

use omniflow_policy::outcome::Outcome;
use omniflow_policy::time::UnixMillis;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::columns::{address, from_millis, saturated, to_millis};
use super::{Database, Result, StorageError};
use omniflow_domain::key_use::CallGroup;

/// One pass over the key's own calls, in the order of the index, however many there are.
const QUERY: &str = "SELECT source_ip, method, endpoint, reason, count(*), min(time), max(time) FROM \
     (SELECT source_ip, method, endpoint, reason, time FROM audit_records WHERE key_id = ? AND time >= ? \
     ORDER BY time DESC LIMIT ?) GROUP BY source_ip, method, endpoint, reason";

impl Database {
    /// The calls of a key that began at `from` or later, the newest `limit` of them.
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
            .await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<CallGroup> {
    Ok(CallGroup {
        address: row.try_get::<Option<&[u8]>, _>(0)?.map(address).transpose()?,
        method: row.try_get(1)?,
        endpoint: row.try_get(2)?,
        outcome: Outcome::from_reason(row.try_get(3)?).ok_or(StorageError::Corrupt("a reason"))?,
        calls: row.try_get::<i64, _>(4)?.cast_unsigned(),
        first: from_millis(row.try_get(5)?),
        last: from_millis(row.try_get(6)?),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sqlx::SqlSafeStr;

    use super::*;
    use crate::http::testing::{Plane, START, record};

    #[tokio::test]
    async fn calls_of_one_key_are_counted_in_groups() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        let (key, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut records: Vec<_> = (0..6).map(|n| record(n, START + n, Some((key, "ci")))).collect();
        records[1].source_ip = None;
        records[2].endpoint = None;
        records.push(record(6, START, Some((other, "other"))));
        plane.deliver(&token, records).await;
        let audit = &plane.app.storage.audit;
        let groups = audit.call_groups(key, UnixMillis(START), 100).await.unwrap();
        let found: BTreeSet<_> =
            groups.iter().map(|one| (one.calls, one.address.is_some(), one.endpoint.is_some())).collect();
        assert_eq!(found, BTreeSet::from([(4, true, true), (1, false, true), (1, true, false)]));
        let most = groups.iter().find(|group| group.calls == 4).unwrap();
        assert_eq!((most.first, most.last), (UnixMillis(START), UnixMillis(START + 5)));
        let calls = async |from, limit| -> u64 {
            let groups = audit.call_groups(key, UnixMillis(from), limit).await.unwrap();
            groups.iter().map(|group| group.calls).sum()
        };
        assert_eq!(calls(START + 4, 100).await, 2);
        assert_eq!(calls(START, 3).await, 3);
    }

    #[tokio::test]
    async fn only_the_calls_of_the_key_are_read() {
        let plane = Plane::new().await;
        let mut reader = plane.app.storage.audit.reader().await.unwrap();
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {QUERY}")).into_sql_str();
        let rows =
            sqlx::query(explain).bind(Uuid::nil()).bind(0).bind(1).fetch_all(&mut *reader).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.try_get(3).unwrap()).collect();
        assert!(plan.iter().any(|step| step.contains("audit_records_key (key_id=? AND time>?)")), "{plan:?}");
    }
}
