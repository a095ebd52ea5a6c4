//! Counting calls over time until a deadline, newest first.

use std::time::Duration;

use omniflow_domain::audit_query::AuditFilter;
use omniflow_policy::time::UnixMillis;
use omniflow_store::{Result, Timeline};
use sqlx::{Postgres, QueryBuilder};
use tokio::time::Instant;

use super::filter::apply;
use super::stats::{COUNTED, Counted};
use crate::columns::{Columns, saturated};
use crate::database::Database;

/// The time span that is counted first, in milliseconds.
const FIRST_SLICE_MS: u64 = 60_000;
/// How long one step should take: after a faster step the time span is doubled, after a slower one halved.
const SLICE_TAKES: Duration = Duration::from_millis(20);

impl Database {
    pub(super) async fn count_intervals(
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
            // The newest calls are counted even if the deadline has passed.
            if from < end && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                timeline.counted_from = Some(end);
                break;
            }
        }
        Ok(timeline)
    }

    async fn count_stretches(&self, slice: &AuditFilter, width: u64, timeline: &mut Timeline) -> Result<()> {
        let mut query = QueryBuilder::<Postgres>::new("SELECT time / ");
        query.push_bind(saturated(width)).push(", ").push(COUNTED).push(" FROM audit_records WHERE true");
        apply(&mut query, slice);
        query.push(" GROUP BY 1, 2, 3");
        for row in &self.sorter().await?.rows(query.build()).await? {
            let stretch = row.column::<i64, _>(0)?.cast_unsigned().saturating_mul(width);
            let Counted { class, latency, calls } = Counted::read(row, 1)?;
            timeline.total.add(class, latency, calls);
            timeline.stretches.entry(stretch).or_default().add(class, latency, calls);
        }
        Ok(())
    }
}
