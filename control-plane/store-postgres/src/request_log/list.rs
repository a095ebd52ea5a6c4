//! Reading single records, and records by their numbers.

use std::collections::HashSet;

use omniflow_domain::audit::{AggregatedCalls, AuditEntry, RecordedCall};
use omniflow_domain::audit_query::AuditFilter;
use omniflow_policy::audit::{AuditKey, Interruption};
use omniflow_policy::denial::Outcome;
use omniflow_store::{Result, StoreError};
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};

use super::filter::apply;
use crate::columns::{Columns, address, digest, from_millis, parsed, row_limit, to_millis};
use crate::database::Database;

/// The columns that [`read`] reads.
pub(crate) const COLUMNS: &str = "id, time, gateway, key_id, key_name, key_version, environment, method, endpoint, path, \
     status, reason, latency_us, source_ip, request_id, request_bytes, response_bytes, argument_hash, \
     argument_hash_partial, aggregated_calls, first_time, grpc_status, interruption";

/// The columns that [`read_recorded`] reads.
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
        self.with_payloads(rows.iter().map(read).collect::<Result<_>>()?).await
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
        self.with_payloads(rows.iter().map(read).collect::<Result<_>>()?).await
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
        Ok(row.column::<i64, _>(0)?.cast_unsigned())
    }
}

/// A record from the columns of [`COLUMNS`]. Whether it has a payload is read by [`Database::with_payloads`].
pub(crate) fn read(row: &PgRow) -> Result<AuditEntry> {
    let grpc_status = row.column::<Option<i64>, _>(21)?;
    Ok(AuditEntry {
        id: row.column(0)?,
        time: from_millis(row.column(1)?),
        gateway: row.column(2)?,
        key: read_key(row)?,
        method: row.column(7)?,
        endpoint: row.column(8)?,
        path: row.column(9)?,
        status: unsigned(row.column::<i32, _>(10)?, "a status")?,
        grpc_status: grpc_status.map(|status| unsigned(status, "a gRPC status")).transpose()?,
        interruption: read_interruption(row)?,
        outcome: Outcome::from_reason(row.column(11)?).ok_or(StoreError::Corrupt("a reason"))?,
        latency_us: row.column::<i64, _>(12)?.cast_unsigned(),
        source_ip: row.column::<Option<&[u8]>, _>(13)?.map(address).transpose()?,
        request_id: row.column(14)?,
        request_bytes: row.column::<i64, _>(15)?.cast_unsigned(),
        response_bytes: row.column::<i64, _>(16)?.cast_unsigned(),
        argument_hash: Some(row.column::<&[u8], _>(17)?)
            .filter(|hash| !hash.is_empty())
            .map(digest)
            .transpose()?,
        argument_hash_partial: row.column(18)?,
        has_payload: false,
        aggregated: read_aggregated(row)?,
    })
}

/// A call from the columns of [`RECORDED_COLUMNS`].
pub(super) fn read_recorded(row: &PgRow) -> Result<RecordedCall> {
    let version = row.column::<Option<i32>, _>(3)?;
    Ok(RecordedCall {
        id: row.column(0)?,
        time: from_millis(row.column(1)?),
        key_id: row.column(2)?,
        version: unsigned(version.unwrap_or_default(), "a version")?,
        method: row.column(4)?,
        endpoint: row.column(5)?,
        path: row.column(6)?,
        outcome: Outcome::from_reason(row.column(7)?).ok_or(StoreError::Corrupt("a reason"))?,
        calls: row.column::<i64, _>(8)?.cast_unsigned(),
    })
}

/// A key from the columns 3 to 6.
pub(super) fn read_key(row: &PgRow) -> Result<Option<AuditKey>> {
    let Some(id) = row.column(3)? else {
        return Ok(None);
    };
    Ok(Some(AuditKey {
        id,
        name: row.column(4)?,
        version: unsigned(row.column::<i32, _>(5)?, "a version")?,
        environment: parsed(row.column(6)?, "an environment")?,
    }))
}

/// A number that PostgreSQL stores in a larger, signed type.
pub(super) fn unsigned<T, C: TryInto<T>>(column: C, what: &'static str) -> Result<T> {
    column.try_into().map_err(|_| StoreError::Corrupt(what))
}

fn read_interruption(row: &PgRow) -> Result<Option<Interruption>> {
    let name: Option<&str> = row.column(22)?;
    let known = |name| Interruption::from_name(name).ok_or(StoreError::Corrupt("an interruption"));
    name.map(known).transpose()
}

fn read_aggregated(row: &PgRow) -> Result<Option<AggregatedCalls>> {
    let Some(calls) = row.column::<Option<i64>, _>(19)? else {
        return Ok(None);
    };
    Ok(Some(AggregatedCalls { calls: calls.cast_unsigned(), first_time: from_millis(row.column(20)?) }))
}
