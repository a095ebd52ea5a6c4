//! Counting calls over time until a deadline, newest first.

use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Sqlite};
use tokio::time::Instant;

use omniflow_domain::audit_query::AuditFilter;

use omniflow_store::{Result, Timeline};

use super::list::apply;
use super::search::Through;
use super::stats::{AGGREGATED, COUNTED, answer_class};
use crate::SqliteStore;
use crate::columns::Columns;

/// The time span that is counted first, in milliseconds.
const FIRST_SLICE_MS: u64 = 60_000;
/// How long one step should take: after a faster step the time span is doubled, after a slower one halved.
const SLICE_TAKES: Duration = Duration::from_millis(10);

impl SqliteStore {
    pub(crate) async fn count_intervals(
        &self,
        filter: &AuditFilter,
        (from, to): (UnixMillis, UnixMillis),
        width: u64,
        deadline: Option<Instant>,
    ) -> Result<Timeline> {
        let mut timeline = Timeline::default();
        let Some((first, last)) = self.audit.audit_span().await? else { return Ok(timeline) };
        let (from, mut end) = (from.max(first), UnixMillis(to.0.min(last.0.saturating_add(1))));
        let mut slice_ms = FIRST_SLICE_MS;
        while from < end {
            let started = Instant::now();
            let start = from.max(UnixMillis(end.0.saturating_sub(slice_ms)));
            let slice = AuditFilter { from: Some(start), to: Some(end), ..filter.clone() };
            self.count_stretches(&slice, width.max(1), &mut timeline).await?;
            let took = started.elapsed();
            slice_ms = if took < SLICE_TAKES / 2 {
                slice_ms.saturating_mul(2)
            } else if took > SLICE_TAKES * 2 {
                (slice_ms / 2).max(1_000)
            } else {
                slice_ms
            };
            end = start;
            // The newest calls are counted even if the deadline has passed.
            if from < end && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                timeline.counted_from = Some(end);
                break;
            }
        }
        Ok(timeline)
    }

    async fn count_stretches(&self, slice: &AuditFilter, width: u64, timeline: &mut Timeline) -> Result<()> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT time / ");
        query.push(width).push(", ").push(COUNTED).push(" FROM audit_records INDEXED BY ");
        query.push(Through::of(slice).index).push(" WHERE true");
        apply(&mut query, slice);
        query.push(" GROUP BY 1, 2, 3");
        let mut sorter = self.sorter().await?;
        let rows = query.build().fetch_all(&mut *sorter).await.map_err(|error| sorter.error(error))?;
        for row in &rows {
            let stretch = row.column::<i64, _>(0)?.cast_unsigned().saturating_mul(width);
            let class = answer_class(row.column(1)?);
            let latency = row.column::<i64, _>(2)?;
            let latency = (latency != AGGREGATED).then(|| latency.cast_unsigned());
            let calls = row.column::<i64, _>(3)?.cast_unsigned();
            timeline.total.add(class, latency, calls);
            timeline.stretches.entry(stretch).or_default().add(class, latency, calls);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omniflow_store::RequestLogStore;
    use omniflow_store::contract::fixtures::{START, ingest, record};

    const MINUTE: u64 = 60_000;

    #[tokio::test]
    async fn timeline_counts_the_newest_interval_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let mut records: Vec<_> = (0..90).map(|n| record(n, START + n * MINUTE, None)).collect();
        records[1].status = 404;
        records[89].status = 503;
        ingest(&store, records).await;
        let span = (UnixMillis(START), UnixMillis(START + 90 * MINUTE));
        let count = async |deadline| {
            store.audit_timeline(&AuditFilter::default(), span, 30 * MINUTE, deadline).await.unwrap()
        };
        let all = count(None).await;
        let calls: Vec<_> = all.stretches.iter().map(|(start, tally)| (start - START, tally.calls)).collect();
        assert_eq!(calls, [(0, 30), (30 * MINUTE, 30), (60 * MINUTE, 30)]);
        assert_eq!((all.total.calls, all.total.client_errors, all.total.server_errors), (90, 1, 1));
        assert_eq!((all.total.percentile(99), all.counted_from), (Some(900), None));
        let newest = count(Some(Instant::now())).await;
        assert_eq!((newest.total.calls, newest.counted_from), (1, Some(UnixMillis(START + 88 * MINUTE + 1))));

        let narrow = (UnixMillis(START + 1), UnixMillis(START + 31 * MINUTE));
        let some = store.audit_timeline(&AuditFilter::default(), narrow, MINUTE, None).await.unwrap();
        assert_eq!((some.total.calls, some.stretches.len()), (30, 30));
    }
}
