//! Reading single records, and records by their numbers.

use std::collections::HashSet;

use omniflow_domain::audit::AuditEntry;
use omniflow_domain::audit_query::AuditFilter;
use omniflow_store::Result;
use omniflow_store::encoding::request_log;
use omniflow_store::encoding::{Columns, row_limit, to_millis};
use sqlx::{Postgres, QueryBuilder};

use super::filter::apply;
use crate::database::Database;

/// The columns of a record. Whether it has a payload is read by [`Database::with_payloads`].
pub(crate) const COLUMNS: &str = "id, time, gateway, key_id, key_name, key_version, environment, method, endpoint, path, \
     status, reason, latency_us, source_ip, request_id, request_bytes, response_bytes, argument_hash, \
     argument_hash_partial, aggregated_calls, first_time, grpc_status, interruption, false";

/// The columns of a record for a replay.
pub(super) const RECORDED_COLUMNS: &str = "id, time, key_id, key_version, method, endpoint, path, reason, \
     coalesce(aggregated_calls, 1)";

impl Database {
    pub(crate) async fn audit_entries_between(
        &self,
        filter: &AuditFilter,
        after: i64,
        last: i64,
    ) -> Result<Vec<AuditEntry>> {
        let Some(times) = self.times_of(after.saturating_add(1)..=last, false).await? else {
            return Ok(Vec::new());
        };
        let mut query = QueryBuilder::<Postgres>::new("SELECT ");
        // By number alone: the range is small, and no index of a filter is as narrow. OFFSET keeps the planner from
        // checking the other conditions first.
        query.push(COLUMNS).push(" FROM (SELECT * FROM audit_records WHERE time >= ").push_bind(times.0);
        query.push(" AND time < ").push_bind(times.1).push(" AND id > ").push_bind(after);
        query.push(" AND id <= ").push_bind(last).push(" OFFSET 0) AS audit_records WHERE true");
        apply(&mut query, filter);
        query.push(" ORDER BY id");
        let rows = self.scanner().await?.rows(query.build()).await?;
        self.with_payloads(rows.iter().map(request_log::entry).collect::<Result<_>>()?).await
    }

    pub(crate) async fn records_after(&self, after: i64, limit: usize) -> Result<Vec<AuditEntry>> {
        let Some(times) = self.times_of(after.saturating_add(1)..=i64::MAX, false).await? else {
            return Ok(Vec::new());
        };
        let query = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM audit_records WHERE time >= $1 AND time < $2 AND id > $3 ORDER BY id LIMIT $4"
        ));
        let query = sqlx::query(query).bind(times.0).bind(times.1).bind(after).bind(row_limit(limit));
        let rows = self.scanner().await?.rows(query).await?;
        self.with_payloads(rows.iter().map(request_log::entry).collect::<Result<_>>()?).await
    }

    pub(crate) async fn audit_entry(&self, id: i64) -> Result<Option<AuditEntry>> {
        Ok(self.records_after(id.saturating_sub(1), 1).await?.into_iter().find(|entry| entry.id == id))
    }

    /// Marks the records that have payloads.
    pub(crate) async fn with_payloads(&self, mut entries: Vec<AuditEntry>) -> Result<Vec<AuditEntry>> {
        let times = || entries.iter().map(|entry| to_millis(entry.time));
        let Some((first, last)) = times().min().zip(times().max()) else { return Ok(entries) };
        let query = sqlx::query(
            "SELECT record_id FROM audit_payloads WHERE time BETWEEN $1 AND $2 AND record_id = ANY($3)",
        )
        .bind(first)
        .bind(last)
        .bind(entries.iter().map(|entry| entry.id).collect::<Vec<_>>());
        let rows = self.scanner().await?.rows(query).await?;
        let with_payload = rows.iter().map(|row| row.column(0)).collect::<Result<HashSet<i64>>>()?;
        for entry in &mut entries {
            entry.has_payload = with_payload.contains(&entry.id);
        }
        Ok(entries)
    }

    /// The number of the last record, unless the log is empty.
    pub(crate) async fn newest_record(&self) -> Result<i64> {
        let query = sqlx::query(
            "SELECT records FROM audit_numbers WHERE EXISTS \
             (SELECT FROM log_usage WHERE content <> 'payloads' AND log_usage.records > 0)",
        );
        let row = self.reader().await?.optional_row(query).await?;
        row.map_or(Ok(0), |row| row.column(0))
    }

    pub(crate) async fn record_total(&self) -> Result<u64> {
        let row = self.reader().await?.row(sqlx::query("SELECT records FROM audit_numbers")).await?;
        row.column(0)
    }
}
