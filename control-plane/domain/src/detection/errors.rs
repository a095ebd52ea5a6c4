//! Runs of 4xx: many more responses with one status than usual for this number of calls.
//!
//! The number is compared with the share of this status in the key's history: if errors merely grow in proportion to
//! calls, that is not a run. The hours of the history show how much the share varies normally.

use super::{ErrorClass, Excess, History, KeyHour, MARGIN, second_largest};

/// Minimum number of responses in an hour that count as a run. A person who experiments, or a client that retries,
/// causes fewer.
pub(super) const MIN_ERRORS: u64 = 20;
/// Responses added to both sides of a ratio, so that few responses do not produce a large ratio.
const PADDING: f64 = 5.0;
/// Minimum ratio that counts as a run.
const MIN_RATIO: f64 = 4.0;

/// Whether an hour has too many responses of a class.
pub(super) fn judge(history: &History, present: KeyHour, class: ErrorClass) -> Option<Excess> {
    let observed = present.errors_of(class);
    if observed < MIN_ERRORS {
        return None;
    }
    let sum = |count: fn(&KeyHour, ErrorClass) -> u64| {
        history.hours.iter().map(|hour| count(hour, class) as f64).sum::<f64>()
    };
    let calls = sum(|hour, _| hour.calls);
    let share = if calls > 0.0 { sum(KeyHour::errors_of) / calls } else { 0.0 };
    let ratio = |errors: u64, calls: u64| (errors as f64 + PADDING) / (calls as f64 * share + PADDING);
    let surprises = history.hours.iter().map(|hour| ratio(hour.errors_of(class), hour.calls));
    let needed = MIN_RATIO.max(MARGIN * second_largest(surprises, 1.0));
    let expected = present.calls as f64 * share;
    let bound = (needed * (expected + PADDING) - PADDING).ceil().max(MIN_ERRORS as f64) as u64;
    (observed >= bound).then_some(Excess { observed, expected, bound })
}
