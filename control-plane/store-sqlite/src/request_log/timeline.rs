//! Counting calls over time, within a time that a person waits: the newest first, as far as it comes.

use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Row, Sqlite};
use tokio::time::Instant;

use omniflow_store::{AuditFilter, Result, Timeline};

use super::list::apply;
use super::search::Through;
use super::stats::{COUNTED, FOLDED};
use crate::database::Database;

/// The time whose calls are counted first, in milliseconds.
const FIRST_SLICE_MS: u64 = 60_000;
/// What is counted at once takes about as long as that: a slice that took less is followed by one twice as long.
const SLICE_TAKES: Duration = Duration::from_millis(10);

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
