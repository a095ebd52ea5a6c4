//! A summary of the calls that a filter selects: over time, and who made the newest of them. It counts for as long as a
//! person waits; [`RequestLog::stats`] counts all.

use std::time::Duration;

use omniflow_domain::error::Error;
use omniflow_domain::time::DAY_MS;
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;

use super::RequestLog;
use omniflow_domain::audit_query::AuditFilter;
pub use omniflow_store::{AuditedUser, Timeline};

/// Number of newest calls whose clients are counted.
const NEWEST: usize = 5_000;
/// Maximum number of intervals in a period.
const MAX_INTERVALS: u64 = 60;
/// Possible lengths of an interval, in milliseconds: round units up to a day.
const WIDTHS: [u64; 12] = [
    1_000, 10_000, 30_000, 60_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 10_800_000, 21_600_000,
    DAY_MS,
];

/// A summary of calls.
pub struct Overview {
    /// Calls that began at or after this time.
    pub from: UnixMillis,
    /// Calls that began before this time.
    pub to: UnixMillis,
    /// The length of an interval, in milliseconds.
    pub width: u64,
    /// Calls by the interval in which they began.
    pub timeline: Timeline,
    /// The clients of the newest calls.
    pub newest: Vec<AuditedUser>,
}

// === impl RequestLog ===

impl RequestLog {
    /// Summarises the calls that a filter selects; those of the last 24 hours before its `to`, unless it has `from`.
    /// Without `max_duration`, all are counted however long it takes.
    pub async fn overview(
        &self,
        filter: AuditFilter,
        max_duration: Option<Duration>,
    ) -> Result<Overview, Error> {
        let to = filter.to.unwrap_or_else(|| self.clock.now());
        let from = filter.from.unwrap_or(UnixMillis(to.0.saturating_sub(DAY_MS)));
        let width = width(to.0.saturating_sub(from.0));
        let within = AuditFilter { from: Some(from), to: Some(to), ..filter };
        let started = Instant::now();
        let deadline = max_duration.map(|duration| started + duration);
        let newest_deadline = started + max_duration.unwrap_or(Duration::from_secs(1));
        let (timeline, newest) = tokio::try_join!(
            self.store.audit_timeline(&within, (from, to), width, deadline),
            self.store.search_users(&within, NEWEST, newest_deadline),
        )?;
        Ok(Overview { from, to, width, timeline, newest: newest.found })
    }
}

/// The shortest interval that does not divide this period into too many.
fn width(span: u64) -> u64 {
    let fits = |width: &u64| span.div_ceil(*width) <= MAX_INTERVALS;
    WIDTHS.into_iter().find(fits).unwrap_or_else(|| span.div_ceil(MAX_INTERVALS).next_multiple_of(DAY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_cut_into_units_in_which_people_count() {
        let hour = 3_600_000;
        for (span, expected) in [
            (0, 1_000),
            (60_000, 1_000),
            (hour, 60_000),
            (24 * hour, 1_800_000),
            (7 * DAY_MS, 10_800_000),
            (30 * DAY_MS, DAY_MS),
            (60 * DAY_MS, DAY_MS),
            (90 * DAY_MS, 2 * DAY_MS),
        ] {
            assert_eq!(width(span), expected, "{span}");
        }
    }
}
