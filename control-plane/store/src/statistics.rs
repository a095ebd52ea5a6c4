//! Divides statistics of the request log into steps, so that a database sorts little at once, and adds up their results.

use std::collections::HashSet;
use std::time::Duration;

use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::stats::{AnswerClass, Dimension, GroupValue};
use omniflow_domain::time::{DAY_MS, HOUR_MS};
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;

use crate::request_log::{AuditStats, Timeline};

/// The time span that statistics count at once, in milliseconds.
const SLICE_MS: u64 = DAY_MS;
/// The same span, if clients determine the number of groups.
const ADDRESS_SLICE_MS: u64 = HOUR_MS;
/// The time span that a timeline counts first, in milliseconds.
const FIRST_STEP_MS: u64 = 60_000;
/// The longest time span of a step: 31 days. A backend that divides the log by days locks as many of them.
const MAX_STEP_MS: u64 = 31 * DAY_MS;
/// The shortest time span to which the steps of a timeline shrink, in milliseconds.
const MIN_STEP_MS: u64 = 1_000;

/// The times of some calls: from the first, inclusive, to the second, exclusive.
pub type Span = (UnixMillis, UnixMillis);

/// Calls with responses of one class and latencies with the same first three digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The class of the responses.
    pub class: AnswerClass,
    /// In microseconds; `None` for aggregated calls.
    pub latency: Option<u64>,
    /// Number of calls.
    pub calls: u64,
}

/// The steps in which a timeline is counted, newest first. After a fast step the time span is doubled, after a slow one halved.
#[derive(Debug)]
pub struct TimelineSteps<'f> {
    filter: &'f AuditFilter,
    from: UnixMillis,
    end: UnixMillis,
    step_ms: u64,
    /// How long a step should take.
    target: Duration,
    started: Instant,
}

/// The part of a span that has calls, if the first and the last call of the log began at these times; `None` if it has none.
pub fn within_log(span: Span, log: Option<(UnixMillis, UnixMillis)>) -> Option<Span> {
    let (first, last) = log?;
    let (from, to) = (span.0.max(first), UnixMillis(span.1.0.min(last.0.saturating_add(1))));
    (from < to).then_some((from, to))
}

/// The filter, with other times.
pub fn within(filter: &AuditFilter, (from, to): Span) -> AuditFilter {
    AuditFilter { from: Some(from), to: Some(to), ..filter.clone() }
}

/// Whether the groups of a span are at most `most`, whatever its calls are.
pub fn all_groups_fit((from, to): Span, by: &[Dimension], most: usize) -> bool {
    let hours = to.0.saturating_sub(from.0) / HOUR_MS + 2;
    by == [Dimension::Hour] && usize::try_from(hours).is_ok_and(|hours| hours <= most)
}

/// The parts of a span that are counted one at a time. They end with a day or an hour.
pub fn slices<'f>(
    filter: &'f AuditFilter,
    span: Span,
    by: &[Dimension],
) -> impl Iterator<Item = AuditFilter> + use<'f> {
    parts(filter, span, if by.contains(&Dimension::Address) { ADDRESS_SLICE_MS } else { SLICE_MS })
}

/// The parts of a span, in the order of time. They end with a multiple of `length_ms`.
pub fn parts(
    filter: &AuditFilter,
    (from, to): Span,
    length_ms: u64,
) -> impl Iterator<Item = AuditFilter> + use<'_> {
    let mut start = from;
    std::iter::from_fn(move || {
        let end = UnixMillis(to.0.min((start.0 / length_ms).saturating_add(1).saturating_mul(length_ms)));
        let part = (start < end).then(|| within(filter, (start, end)));
        start = end;
        part
    })
}

// === impl AuditStats ===

impl AuditStats {
    /// Adds calls of a group. Those of a group that is not among the largest count as other calls.
    pub fn add(
        &mut self,
        group: Vec<GroupValue>,
        counted: Counted,
        largest: Option<&HashSet<Vec<GroupValue>>>,
    ) {
        let Counted { class, latency, calls } = counted;
        self.total.add(class, latency, calls);
        if largest.is_none_or(|largest| largest.contains(&group)) {
            self.groups.entry(group).or_default().add(class, latency, calls);
        } else {
            self.other.add(class, latency, calls);
        }
    }
}

// === impl Timeline ===

impl Timeline {
    /// Adds calls of the interval that begins at `start`, in milliseconds since 1970.
    pub fn add(&mut self, start: u64, counted: Counted) {
        let Counted { class, latency, calls } = counted;
        self.total.add(class, latency, calls);
        self.stretches.entry(start).or_default().add(class, latency, calls);
    }
}

// === impl TimelineSteps ===

impl<'f> TimelineSteps<'f> {
    /// Divides a span into steps of which each should take as long as `target`.
    pub fn new(filter: &'f AuditFilter, (from, end): Span, target: Duration) -> Self {
        Self { filter, from, end, step_ms: FIRST_STEP_MS, target, started: Instant::now() }
    }

    /// The calls of the next step; `None` after the last one.
    pub fn begin(&mut self) -> Option<AuditFilter> {
        self.started = Instant::now();
        (self.from < self.end).then(|| within(self.filter, (self.start(), self.end)))
    }

    /// Ends a step. If the deadline has passed before the last one, returns where counting stops. The newest calls are counted
    /// even if it had passed before.
    pub fn end(&mut self, deadline: Option<Instant>) -> Option<UnixMillis> {
        self.end = self.start();
        let took = self.started.elapsed();
        if took < self.target / 2 {
            self.step_ms = self.step_ms.saturating_mul(2).min(MAX_STEP_MS);
        } else if took > self.target * 2 {
            self.step_ms = (self.step_ms / 2).max(MIN_STEP_MS);
        }
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        (is_late && self.from < self.end).then_some(self.end)
    }

    fn start(&self) -> UnixMillis {
        self.from.max(UnixMillis(self.end.0.saturating_sub(self.step_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_millis(HOUR_MS);

    fn times(filter: &AuditFilter) -> (u64, u64) {
        (filter.from.unwrap().0, filter.to.unwrap().0)
    }

    #[test]
    fn slices_end_with_a_day_or_an_hour() {
        let filter = AuditFilter::default();
        let of = |span, by: &[_]| slices(&filter, span, by).map(|slice| times(&slice)).collect::<Vec<_>>();
        let span = (UnixMillis(DAY_MS - 5), UnixMillis(2 * DAY_MS + 7));
        let days = [(DAY_MS - 5, DAY_MS), (DAY_MS, 2 * DAY_MS), (2 * DAY_MS, 2 * DAY_MS + 7)];
        assert_eq!(of(span, &[Dimension::Key]), days);
        let hours = of(span, &[Dimension::Key, Dimension::Address]);
        assert_eq!((hours.len(), hours[1]), (26, (DAY_MS, DAY_MS + HOUR_MS)));
        assert_eq!(of((UnixMillis(5), UnixMillis(5)), &[]), []);
    }

    #[test]
    fn span_is_that_of_the_calls() {
        let span = (UnixMillis(10), UnixMillis(20));
        let log = |first, last| Some((UnixMillis(first), UnixMillis(last)));
        assert_eq!(within_log(span, None), None);
        assert_eq!(within_log(span, log(12, 15)), Some((UnixMillis(12), UnixMillis(16))));
        assert_eq!(within_log(span, log(5, 30)), Some(span));
        assert_eq!(within_log(span, log(20, 30)), None);
    }

    #[tokio::test]
    async fn steps_of_a_timeline_follow_their_speed() {
        let filter = AuditFilter::default();
        let mut steps = TimelineSteps::new(&filter, (UnixMillis(0), UnixMillis(200_000)), HOUR);
        assert_eq!(times(&steps.begin().unwrap()), (140_000, 200_000));
        assert_eq!(steps.end(None), None);
        assert_eq!(times(&steps.begin().unwrap()), (20_000, 140_000), "twice as much after a fast step");
        assert_eq!(steps.end(Some(Instant::now())), Some(UnixMillis(20_000)));
        assert_eq!(times(&steps.begin().unwrap()), (0, 20_000));
        assert_eq!(steps.end(Some(Instant::now())), None, "all is counted");
        assert!(steps.begin().is_none());
        let mut long = TimelineSteps::new(&filter, (UnixMillis(0), UnixMillis(900 * DAY_MS)), HOUR);
        let mut longest = 0;
        while let Some(step) = long.begin() {
            longest = longest.max(times(&step).1 - times(&step).0);
            long.end(None);
        }
        assert_eq!(longest, 31 * DAY_MS);
        let mut slow = TimelineSteps::new(&filter, (UnixMillis(0), UnixMillis(200_000)), Duration::ZERO);
        assert_eq!(times(&slow.begin().unwrap()), (140_000, 200_000));
        slow.end(None);
        assert_eq!(times(&slow.begin().unwrap()), (110_000, 140_000), "half as much after a slow step");
    }
}
