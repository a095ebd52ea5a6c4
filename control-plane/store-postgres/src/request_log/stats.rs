//! Statistics of the request log.
//!
//! One day or hour is read at a time, so that PostgreSQL sorts little at once. Latencies are counted with three significant
//! digits, rounded down: the error is below 1%.

use std::collections::{HashMap, HashSet};

use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::stats::{Dimension, GroupValue};
use omniflow_domain::time::DAY_MS;
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::statistics::{counted, group};
use omniflow_store::encoding::{Columns, from_millis, row_limit, to_millis};
use omniflow_store::statistics::{Span, all_groups_fit, parts, slices, within_log};
use omniflow_store::{AuditStats, Result};
use sqlx::{Postgres, QueryBuilder};

use super::filter::apply;
use crate::database::Database;
use crate::partitions::{end_of, start_of};

/// The time span that one statement groups: 31 days. It locks each day with its indexes, and each lock is one of the 6,400 that a
/// server has by default.
const PART_MS: u64 = 31 * DAY_MS;
/// The groups of a part from which the largest of a longer span are chosen.
const CANDIDATES: usize = 20_000;

/// The columns of [`counted`]. Latencies have three significant digits.
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

impl Database {
    pub(super) async fn count_groups(
        &self,
        filter: &AuditFilter,
        span: Span,
        by: &[Dimension],
        most: usize,
    ) -> Result<AuditStats> {
        let mut stats = AuditStats::default();
        let Some(span) = within_log(span, self.audit_span().await?) else { return Ok(stats) };
        let largest = if all_groups_fit(span, by, most) {
            None
        } else {
            Some(self.largest_groups(filter, span, by, most).await?)
        };
        for slice in slices(filter, span, by) {
            self.count_slice(&slice, by, largest.as_ref(), &mut stats).await?;
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
    /// never does: clients determine how many addresses there are. Of a longer span, they are chosen from the
    /// [`CANDIDATES`] largest of each part.
    async fn largest_groups(
        &self,
        filter: &AuditFilter,
        span: Span,
        by: &[Dimension],
        most: usize,
    ) -> Result<HashSet<Vec<GroupValue>>> {
        let parts: Vec<_> = parts(filter, span, PART_MS).collect();
        let limit = if parts.len() > 1 { most.max(CANDIDATES) } else { most };
        let mut sums: HashMap<Vec<GroupValue>, u64> = HashMap::new();
        for part in &parts {
            let mut query = groups_query("SELECT", part, by, limit);
            for row in &self.sorter().await?.rows(query.build()).await? {
                let sum = sums.entry(group(row, by)?).or_default();
                *sum = sum.saturating_add(row.column(by.len())?);
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_unstable_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        Ok(sums.into_iter().take(most).map(|(group, _)| group).collect())
    }

    async fn count_slice(
        &self,
        slice: &AuditFilter,
        by: &[Dimension],
        largest: Option<&HashSet<Vec<GroupValue>>>,
        stats: &mut AuditStats,
    ) -> Result<()> {
        let mut query = counts_query("SELECT", slice, by);
        let rows = self.sorter().await?.rows(query.build()).await?;
        for row in &rows {
            stats.add(group(row, by)?, counted(row, by.len())?, largest);
        }
        Ok(())
    }
}

/// The largest groups, those with the most calls first.
fn groups_query(verb: &str, filter: &AuditFilter, by: &[Dimension], limit: usize) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::<Postgres>::new(verb);
    query.push(" ").push(columns(by));
    query.push(", sum(coalesce(aggregated_calls, 1))::bigint AS calls FROM audit_records WHERE true");
    apply(&mut query, filter);
    query.push(" GROUP BY ").push(positions(by.len())).push(" ORDER BY calls DESC, ");
    query.push(positions(by.len())).push(" LIMIT ").push_bind(row_limit(limit));
    query
}

/// The calls of all groups, by class and latency.
fn counts_query(verb: &str, slice: &AuditFilter, by: &[Dimension]) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::<Postgres>::new(verb);
    query.push(" ").push(columns(by)).push(", ").push(COUNTED).push(" FROM audit_records WHERE true");
    apply(&mut query, slice);
    query.push(" GROUP BY ").push(positions(by.len() + 2));
    query
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use omniflow_store::contract::fixtures::{DAY, START, at, ingest, record};

    use super::*;
    use crate::test_store::new_store;

    /// The partitions in the plan of a query.
    async fn partitions(database: &Database, mut query: QueryBuilder<Postgres>) -> usize {
        let rows = database.sorter().await.unwrap().rows(query.build()).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.column(0).unwrap()).collect();
        let names = plan.iter().flat_map(|line| line.split_whitespace());
        let found: BTreeSet<_> = names.filter(|name| name.starts_with("audit_records_2")).collect();
        assert!(!found.is_empty(), "{plan:#?}");
        found.iter().filter_map(|name| name.get(..22)).collect::<BTreeSet<_>>().len()
    }

    /// A statement locks the partitions of its days, and no others.
    #[tokio::test]
    async fn statement_locks_the_days_that_it_counts() {
        let (store, _database) = new_store().await;
        ingest(&store, (0..200).map(|n| record(n, START + n * DAY, None)).collect()).await;
        let (all, span) = (AuditFilter::default(), (at(0), at(200 * DAY)));
        for by in [&[Dimension::Key][..], &[Dimension::Address, Dimension::Hour]] {
            for slice in slices(&all, span, by).take(30) {
                let query = counts_query("EXPLAIN SELECT", &slice, by);
                assert_eq!(partitions(&store.database, query).await, 1, "{slice:?}");
            }
            let mut most = 0;
            for part in parts(&all, span, PART_MS) {
                let query = groups_query("EXPLAIN SELECT", &part, by, 9);
                most = most.max(partitions(&store.database, query).await);
            }
            assert_eq!(most, 31);
        }
    }
}
