//! Runs of 4xx: many more answers of one status than the key gets among so many calls.
//!
//! Held against the share that this status has in the key's history: where calls grow and errors with them, that is no
//! run. The hours of the history show how far the share varies by itself.

use super::{ErrorClass, Excess, History, KeyHour, MARGIN, second_largest};

/// The least answers in an hour that are a run. A person who tries things out, or a client that retries, makes fewer.
pub(super) const MIN_ERRORS: u64 = 20;
/// Answers that are added to both sides of a ratio, so that few do not make a large one.
const PADDING: f64 = 5.0;
/// The least ratio that is a run.
const MIN_RATIO: f64 = 4.0;

/// Whether an hour has too many answers of a class.
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
