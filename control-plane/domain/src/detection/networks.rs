//! Calls from networks from which the key was never used.
//!
//! For a key that never changes networks, the first new network is an anomaly. For a key that changes them all day, an
//! anomaly is more than twice as many in a day as on its second most variable day.

use super::{Excess, History, MARGIN, Present, second_largest};

/// Whether there are too many new networks.
pub(super) fn judge(history: &History, present: &Present) -> Option<Excess> {
    if present.new_networks.is_empty() {
        return None;
    }
    let days = history.new_networks.iter().map(|count| *count as f64);
    let most = second_largest(days, 0.0);
    let known_days =
        (present.counts.hour.saturating_sub(history.since).min(super::HISTORY_HOURS) / 24).max(1);
    let expected = history.new_networks.iter().sum::<u64>() as f64 / known_days as f64;
    let bound = (MARGIN * most) as u64 + 1;
    (present.new_in_a_day >= bound).then_some(Excess { observed: present.new_in_a_day, expected, bound })
}
