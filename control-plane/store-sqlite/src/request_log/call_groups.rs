//! How a key was used: its audited calls in groups.

use omniflow_policy::outcome::Outcome;
use omniflow_policy::time::UnixMillis;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use omniflow_domain::key_use::CallGroup;
use omniflow_store::{Result, StoreError};

use crate::columns::{address, from_millis, saturated, to_millis};
use crate::database::Database;

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
        outcome: Outcome::from_reason(row.try_get(3)?).ok_or(StoreError::Corrupt("a reason"))?,
        calls: row.try_get::<i64, _>(4)?.cast_unsigned(),
        first: from_millis(row.try_get(5)?),
        last: from_millis(row.try_get(6)?),
    })
}
