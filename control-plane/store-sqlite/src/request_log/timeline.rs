//! Counting calls over time until a deadline, newest first.

use std::time::Duration;

use sqlx::{QueryBuilder, Sqlite};
use tokio::time::Instant;

use omniflow_domain::audit_query::AuditFilter;

use omniflow_store::encoding::Columns;
use omniflow_store::encoding::statistics::counted;
use omniflow_store::search::Narrowest;
use omniflow_store::statistics::{Span, TimelineSteps, within_log};
use omniflow_store::{Result, Timeline};

use super::list::apply;
use super::search::index_name;
use super::stats::COUNTED;
use crate::SqliteStore;

/// How long one step should take.
const STEP_TAKES: Duration = Duration::from_millis(10);

impl SqliteStore {
    pub(crate) async fn count_intervals(
        &self,
        filter: &AuditFilter,
        span: Span,
        width: u64,
        deadline: Option<Instant>,
    ) -> Result<Timeline> {
        let mut timeline = Timeline::default();
        let Some(span) = within_log(span, self.audit.audit_span().await?) else { return Ok(timeline) };
        let mut steps = TimelineSteps::new(filter, span, STEP_TAKES);
        while let Some(step) = steps.begin() {
            self.count_stretches(&step, width.max(1), &mut timeline).await?;
            timeline.counted_from = steps.end(deadline);
            if timeline.counted_from.is_some() {
                break;
            }
        }
        Ok(timeline)
    }

    async fn count_stretches(&self, slice: &AuditFilter, width: u64, timeline: &mut Timeline) -> Result<()> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT time / ");
        query.push(width).push(", ").push(COUNTED).push(" FROM audit_records INDEXED BY ");
        query.push(index_name(Narrowest::of(slice).index)).push(" WHERE true");
        apply(&mut query, slice);
        query.push(" GROUP BY 1, 2, 3");
        let mut sorter = self.sorter().await?;
        let rows = query.build().fetch_all(&mut *sorter).await.map_err(|error| sorter.error(error))?;
        for row in &rows {
            timeline.add(row.column::<u64>(0)?.saturating_mul(width), counted(row, 1)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omniflow_policy::time::UnixMillis;
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
