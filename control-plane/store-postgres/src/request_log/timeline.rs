//! Counting calls over time until a deadline, newest first.

use std::time::Duration;

use omniflow_domain::audit_query::AuditFilter;
use omniflow_store::encoding::statistics::counted;
use omniflow_store::encoding::{Columns, saturated};
use omniflow_store::statistics::{Span, TimelineSteps, within_log};
use omniflow_store::{Result, Timeline};
use sqlx::{Postgres, QueryBuilder};
use tokio::time::Instant;

use super::filter::apply;
use super::stats::COUNTED;
use crate::database::Database;

/// How long one step should take.
const STEP_TAKES: Duration = Duration::from_millis(20);

impl Database {
    pub(super) async fn count_intervals(
        &self,
        filter: &AuditFilter,
        span: Span,
        width: u64,
        deadline: Option<Instant>,
    ) -> Result<Timeline> {
        let mut timeline = Timeline::default();
        let Some(span) = within_log(span, self.audit_span().await?) else { return Ok(timeline) };
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
        let mut query = QueryBuilder::<Postgres>::new("SELECT time / ");
        query.push_bind(saturated(width)).push(", ").push(COUNTED).push(" FROM audit_records WHERE true");
        apply(&mut query, slice);
        query.push(" GROUP BY 1, 2, 3");
        for row in &self.sorter().await?.rows(query.build()).await? {
            timeline.add(row.column::<u64>(0)?.saturating_mul(width), counted(row, 1)?);
        }
        Ok(())
    }
}
