//! Counting calls over time, within a time that a person waits: the newest first, as far as it comes.

use std::collections::BTreeMap;
use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Row, Sqlite};
use tokio::time::Instant;

use super::audit::apply;
use super::audit_look::Through;
use super::audit_stats::{COUNTED, FOLDED};
use super::{AuditFilter, Database, Result};
use omniflow_domain::stats::Tally;

/// The time whose calls are counted first, in milliseconds.
const FIRST_SLICE_MS: u64 = 60_000;
/// What is counted at once takes about as long as that: a slice that took less is followed by one twice as long.
const SLICE_TAKES: Duration = Duration::from_millis(10);

/// Calls by the time at which they began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    /// The calls of each stretch of time, by its beginning in milliseconds since 1970. Stretches without calls are left out.
    pub(crate) stretches: BTreeMap<u64, Tally>,
    /// All of them.
    pub(crate) total: Tally,
    /// From when on calls were counted, if the time was over before all were.
    pub(crate) counted_from: Option<UnixMillis>,
}

impl Database {
    /// Counts the calls from `from` until before `to`, which the filter's own times have to be, in stretches of `width`
    /// milliseconds, the newest first, as far as it comes before `deadline`; without one, all of them.
    pub(crate) async fn audit_timeline(
        &self,
        filter: &AuditFilter,
        (from, to): (UnixMillis, UnixMillis),
        width: u64,
        deadline: Option<Instant>,
    ) -> Result<Timeline> {
        let mut timeline = Timeline::default();
        let Some((first, last)) = self.audit_span().await? else { return Ok(timeline) };
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
            // However late it is, the newest are counted.
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
        for row in &query.build().fetch_all(&mut *self.reader().await?).await? {
            let stretch = row.try_get::<i64, _>(0)?.cast_unsigned().saturating_mul(width);
            let class = row.try_get(1)?;
            let latency = row.try_get::<i64, _>(2)?;
            let latency = (latency != FOLDED).then(|| latency.cast_unsigned());
            let calls = row.try_get::<i64, _>(3)?.cast_unsigned();
            timeline.total.add(class, latency, calls);
            timeline.stretches.entry(stretch).or_default().add(class, latency, calls);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::{Plane, START, record};

    const MINUTE: u64 = 60_000;

    #[tokio::test]
    async fn calls_are_counted_by_stretch_and_the_newest_first() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        plane.pass(Duration::from_secs(2 * 3_600));
        let mut records: Vec<_> = (0..90).map(|n| record(n, START + n * MINUTE, None)).collect();
        records[1].status = 404;
        records[89].status = 503;
        plane.deliver(&token, records).await;
        let audit = &plane.app.storage.audit;
        let span = (UnixMillis(START), UnixMillis(START + 90 * MINUTE));
        let count = async |deadline| {
            audit.audit_timeline(&AuditFilter::default(), span, 30 * MINUTE, deadline).await.unwrap()
        };
        let all = count(None).await;
        let calls: Vec<_> = all.stretches.iter().map(|(start, tally)| (start - START, tally.calls)).collect();
        assert_eq!(calls, [(0, 30), (30 * MINUTE, 30), (60 * MINUTE, 30)]);
        assert_eq!((all.total.calls, all.total.client_errors, all.total.server_errors), (90, 1, 1));
        assert_eq!((all.total.percentile(99), all.counted_from), (Some(900), None));
        let newest = count(Some(Instant::now())).await;
        assert_eq!((newest.total.calls, newest.counted_from), (1, Some(UnixMillis(START + 88 * MINUTE + 1))));

        let narrow = (UnixMillis(START + 1), UnixMillis(START + 31 * MINUTE));
        let some = audit.audit_timeline(&AuditFilter::default(), narrow, MINUTE, None).await.unwrap();
        assert_eq!((some.total.calls, some.stretches.len()), (30, 30));
    }
}
