//! What the calls that a filter selects look like at a glance, as a page shows it: over time, and who makes them. It is
//! counted for as long as a person waits; where more is asked for, `GET /v1/audit/stats` counts all of it.

use std::time::Duration;

use omniflow_domain::error::Error;
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;

use super::FilterQuery;
use crate::service::app::App;
use crate::storage::{AuditFilter, AuditedUser, Look, Timeline};

/// What is looked at where no time is stated, in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// The calls of which it is told who made them.
const NEWEST: usize = 5_000;
/// The most stretches of a time.
const MAX_STRETCHES: u64 = 60;
/// How long a stretch may be, in milliseconds: what people count time in, up to a day.
const WIDTHS: [u64; 12] = [
    1_000, 10_000, 30_000, 60_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 10_800_000, 21_600_000,
    DAY_MS,
];

/// Calls at a glance.
pub(in crate::http) struct Overview {
    /// Calls that began at this time or later.
    pub(in crate::http) from: UnixMillis,
    /// Calls that began before this time.
    pub(in crate::http) to: UnixMillis,
    /// How long a stretch is, in milliseconds.
    pub(in crate::http) width: u64,
    /// Calls by the time at which they began.
    pub(in crate::http) timeline: Timeline,
    /// Who made the newest of them.
    pub(in crate::http) newest: Look<AuditedUser>,
}

/// What the calls look like that a filter selects; of the last 24 hours before its `to`, unless it has `from`. Without
/// `longest`, all are counted however long it takes.
pub(in crate::http) async fn overview(
    app: &App,
    filter: FilterQuery,
    longest: Option<Duration>,
) -> Result<Overview, Error> {
    let filter = filter.read()?;
    let to = filter.to.unwrap_or_else(|| app.now());
    let from = filter.from.unwrap_or(UnixMillis(to.0.saturating_sub(DAY_MS)));
    let width = width(to.0.saturating_sub(from.0));
    let within = AuditFilter { from: Some(from), to: Some(to), ..filter };
    let started = Instant::now();
    let deadline = longest.map(|longest| started + longest);
    let look_until = started + longest.unwrap_or(Duration::from_secs(1));
    let (timeline, newest) = tokio::try_join!(
        app.storage.audit.audit_timeline(&within, (from, to), width, deadline),
        app.storage.audit.look_for_users(&within, NEWEST, look_until),
    )?;
    Ok(Overview { from, to, width, timeline, newest })
}

/// The shortest stretch of which there are not too many in this time.
fn width(span: u64) -> u64 {
    let fits = |width: &u64| span.div_ceil(*width) <= MAX_STRETCHES;
    WIDTHS.into_iter().find(fits).unwrap_or_else(|| span.div_ceil(MAX_STRETCHES).next_multiple_of(DAY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_into_stretches_that_people_count_in() {
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
