//! Statistics of the request log.
//!
//! One day or hour is read at a time, so that PostgreSQL sorts little at once. Latencies are counted with three significant
//! digits, rounded down: the error is below 1%.

use std::collections::HashSet;

use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::stats::{AnswerClass, Dimension, GroupValue};
use omniflow_domain::time::{DAY_MS, HOUR_MS};
use omniflow_policy::time::UnixMillis;
use omniflow_store::{AuditStats, Result};
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::filter::apply;
use super::list::unsigned;
use crate::columns::{Columns, address, from_millis, row_limit, to_millis};
use crate::database::Database;
use crate::partitions::{end_of, start_of};

/// The time span that is counted at once.
const SLICE_MS: u64 = DAY_MS;
/// The same span, if clients determine the number of groups.
const ADDRESS_SLICE_MS: u64 = HOUR_MS;

/// The first digit of the status or [`GRPC_ERROR`], three significant digits of the latency or [`AGGREGATED`], and the calls.
pub(super) const COUNTED: &str = "CASE WHEN grpc_status > 0 AND status < 400 THEN 10 ELSE status / 100 END, CASE \
     WHEN aggregated_calls IS NOT NULL THEN -1 \
     WHEN latency_us < 1000 THEN latency_us \
     WHEN latency_us < 10000 THEN latency_us / 10 * 10 \
     WHEN latency_us < 100000 THEN latency_us / 100 * 100 \
     WHEN latency_us < 1000000 THEN latency_us / 1000 * 1000 \
     WHEN latency_us < 10000000 THEN latency_us / 10000 * 10000 \
     WHEN latency_us < 100000000 THEN latency_us / 100000 * 100000 \
     WHEN latency_us < 1000000000 THEN latency_us / 1000000 * 1000000 \
     ELSE latency_us / 10000000 * 10000000 END, sum(coalesce(aggregated_calls, 1))::bigint";
/// Represents the unknown latency of aggregated calls.
const AGGREGATED: i64 = -1;
/// Stands for a gRPC status other than 0 with a status below 400.
const GRPC_ERROR: i32 = 10;

/// A row of [`COUNTED`].
pub(super) struct Counted {
    pub(super) class: AnswerClass,
    /// In microseconds; `None` for aggregated calls.
    pub(super) latency: Option<u64>,
    pub(super) calls: u64,
}

impl Database {
    pub(super) async fn count_groups(
        &self,
        filter: &AuditFilter,
        (from, to): (UnixMillis, UnixMillis),
        by: &[Dimension],
        most: usize,
    ) -> Result<AuditStats> {
        let mut stats = AuditStats::default();
        let Some((first, last)) = self.audit_span().await? else { return Ok(stats) };
        let (from, to) = (from.max(first), UnixMillis(to.0.min(last.0.saturating_add(1))));
        if from >= to {
            return Ok(stats);
        }
        let within = AuditFilter { from: Some(from), to: Some(to), ..filter.clone() };
        let hours = to.0.saturating_sub(from.0) / HOUR_MS + 2;
        let all_fit = by == [Dimension::Hour] && usize::try_from(hours).is_ok_and(|hours| hours <= most);
        let largest = if all_fit { None } else { Some(self.largest_groups(&within, by, most).await?) };
        let slice_ms = if by.contains(&Dimension::Address) { ADDRESS_SLICE_MS } else { SLICE_MS };
        let mut start = from;
        while start < to {
            let end = UnixMillis(to.0.min((start.0 / slice_ms).saturating_add(1).saturating_mul(slice_ms)));
            let slice = AuditFilter { from: Some(start), to: Some(end), ..filter.clone() };
            self.count_slice(&slice, by, largest.as_ref(), &mut stats).await?;
            start = end;
        }
        Ok(stats)
    }

    /// The times of the first and the last call; `None` for an empty log.
    pub(super) async fn audit_span(&self) -> Result<Option<(UnixMillis, UnixMillis)>> {
        let days = self.days(None, None).await?;
        let Some((newest, oldest)) = days.first().zip(days.last()) else { return Ok(None) };
        let query = sqlx::query(
            "SELECT (SELECT min(time) FROM audit_records WHERE time < $1), \
             (SELECT max(time) FROM audit_records WHERE time >= $2 AND time < $3)",
        )
        .bind(to_millis(end_of(*oldest)))
        .bind(to_millis(start_of(*newest)))
        .bind(to_millis(end_of(*newest)));
        let row = self.scanner().await?.row(query).await?;
        let (first, last): (Option<i64>, Option<i64>) = (row.column(0)?, row.column(1)?);
        Ok(first.zip(last).map(|(first, last)| (from_millis(first), from_millis(last))))
    }

    /// The groups with the most calls. PostgreSQL holds the counts of the others, on disk if necessary, and this process
    /// never does: clients determine how many addresses there are.
    async fn largest_groups(
        &self,
        filter: &AuditFilter,
        by: &[Dimension],
        most: usize,
    ) -> Result<HashSet<Vec<GroupValue>>> {
        let mut query = QueryBuilder::<Postgres>::new("SELECT ");
        query
            .push(columns(by))
            .push(", sum(coalesce(aggregated_calls, 1)) AS calls FROM audit_records WHERE true");
        apply(&mut query, filter);
        query.push(" GROUP BY ").push(positions(by.len())).push(" ORDER BY calls DESC, ");
        query.push(positions(by.len())).push(" LIMIT ").push_bind(row_limit(most));
        let rows = self.sorter().await?.rows(query.build()).await?;
        rows.iter().map(|row| group(row, by)).collect()
    }

    async fn count_slice(
        &self,
        slice: &AuditFilter,
        by: &[Dimension],
        largest: Option<&HashSet<Vec<GroupValue>>>,
        stats: &mut AuditStats,
    ) -> Result<()> {
        let mut query = QueryBuilder::<Postgres>::new("SELECT ");
        query.push(columns(by)).push(", ").push(COUNTED).push(" FROM audit_records WHERE true");
        apply(&mut query, slice);
        query.push(" GROUP BY ").push(positions(by.len() + 2));
        let rows = self.sorter().await?.rows(query.build()).await?;
        for row in &rows {
            let group = group(row, by)?;
            let Counted { class, latency, calls } = Counted::read(row, by.len())?;
            stats.total.add(class, latency, calls);
            if largest.is_none_or(|largest| largest.contains(&group)) {
                stats.groups.entry(group).or_default().add(class, latency, calls);
            } else {
                stats.other.add(class, latency, calls);
            }
        }
        Ok(())
    }
}

/// The columns of a grouping; the hour is an expression.
fn columns(by: &[Dimension]) -> String {
    let columns: Vec<&str> = by
        .iter()
        .map(|dimension| match dimension {
            Dimension::Hour => "time / 3600000",
            Dimension::Key => "key_id",
            Dimension::Endpoint => "endpoint",
            Dimension::Address => "source_ip",
            Dimension::Status => "status",
            Dimension::GrpcStatus => "grpc_status",
            Dimension::Reason => "reason",
        })
        .collect();
    columns.join(", ")
}

/// The first columns by number.
fn positions(count: usize) -> String {
    (1..=count).map(|position| position.to_string()).collect::<Vec<_>>().join(", ")
}

fn group(row: &PgRow, by: &[Dimension]) -> Result<Vec<GroupValue>> {
    by.iter().enumerate().map(|(column, dimension)| value(row, column, *dimension)).collect()
}

fn value(row: &PgRow, column: usize, dimension: Dimension) -> Result<GroupValue> {
    let value = match dimension {
        Dimension::Hour => {
            let hour = row.column::<i64, _>(column)?.cast_unsigned();
            Some(GroupValue::Hour(UnixMillis(hour.saturating_mul(HOUR_MS))))
        }
        Dimension::Key => row.column::<Option<Uuid>, _>(column)?.map(GroupValue::Key),
        Dimension::Address => {
            row.column::<Option<&[u8]>, _>(column)?.map(address).transpose()?.map(GroupValue::Address)
        }
        Dimension::Status => Some(GroupValue::Status(unsigned(row.column::<i32, _>(column)?, "a status")?)),
        Dimension::GrpcStatus => {
            let status = row.column::<Option<i64>, _>(column)?;
            status.map(|status| unsigned(status, "a gRPC status")).transpose()?.map(GroupValue::GrpcStatus)
        }
        Dimension::Endpoint | Dimension::Reason => {
            row.column::<Option<String>, _>(column)?.map(GroupValue::Text)
        }
    };
    Ok(value.unwrap_or(GroupValue::Nothing))
}

// === impl Counted ===

impl Counted {
    /// Reads the columns of [`COUNTED`], which begin at this one.
    pub(super) fn read(row: &PgRow, first: usize) -> Result<Self> {
        let class = match row.column::<i32, _>(first)? {
            4 => AnswerClass::ClientError,
            5 => AnswerClass::ServerError,
            GRPC_ERROR => AnswerClass::GrpcError,
            _ => AnswerClass::Other,
        };
        let latency = row.column::<i64, _>(first + 1)?;
        Ok(Self {
            class,
            latency: (latency != AGGREGATED).then(|| latency.cast_unsigned()),
            calls: row.column::<i64, _>(first + 2)?.cast_unsigned(),
        })
    }
}
