//! Calls of a key by address, method, endpoint and reason.

use omniflow_domain::key_use::CallGroup;
use omniflow_policy::time::UnixMillis;
use omniflow_store::Result;
use omniflow_store::encoding::request_log::call_group;
use omniflow_store::encoding::{saturated, to_millis};
use uuid::Uuid;

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
        rows.iter().map(call_group).collect()
    }
}
