//! Calls of a key by address, method, endpoint and reason.

use omniflow_domain::key_use::CallGroup;
use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;
use omniflow_store::{Result, StoreError};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::columns::{Columns, address, from_millis, saturated, to_millis};
use crate::database::Database;

/// One scan over the calls of the key, in the order of the index.
const QUERY: &str = "SELECT source_ip, method, endpoint, reason, sum(calls)::bigint, min(first), max(time) FROM \
     (SELECT source_ip, method, endpoint, reason, time, coalesce(aggregated_calls, 1) AS calls, \
     coalesce(first_time, time) AS first FROM audit_records WHERE key_id = $1 AND time >= $2 \
     ORDER BY time DESC, id DESC LIMIT $3) AS calls GROUP BY source_ip, method, endpoint, reason";

impl Database {
    pub(crate) async fn call_groups(
        &self,
        key: Uuid,
        from: UnixMillis,
        limit: u64,
    ) -> Result<Vec<CallGroup>> {
        let query = sqlx::query(QUERY).bind(key).bind(to_millis(from)).bind(saturated(limit));
        let rows = self.scanner().await?.rows(query).await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &PgRow) -> Result<CallGroup> {
    Ok(CallGroup {
        address: row.column::<Option<&[u8]>, _>(0)?.map(address).transpose()?,
        method: row.column(1)?,
        endpoint: row.column(2)?,
        outcome: Outcome::from_reason(row.column(3)?).ok_or(StoreError::Corrupt("a reason"))?,
        calls: row.column::<i64, _>(4)?.cast_unsigned(),
        first: from_millis(row.column(5)?),
        last: from_millis(row.column(6)?),
    })
}
