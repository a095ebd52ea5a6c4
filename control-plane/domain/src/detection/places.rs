//! Many places at once: calls from more networks within ten minutes than usual for the key.

use super::{Excess, History, KeyHour, MARGIN, second_largest};

/// Minimum number of networks within ten minutes that counts as many: a service may alternate between two or three
/// egress networks.
pub(super) const MIN_PLACES: u64 = 4;

/// Whether an hour has a slot with too many networks.
pub(super) fn judge(history: &History, present: KeyHour) -> Option<Excess> {
    let observed = present.places;
    if observed < MIN_PLACES {
        return None;
    }
    let used = history.hours.iter().filter(|hour| hour.places > 0);
    let (sum, count) = used.fold((0, 0), |(sum, count), hour| (sum + hour.places, count + 1_u64));
    let expected = if count > 0 { sum as f64 / count as f64 } else { 0.0 };
    let most = second_largest(history.hours.iter().map(|hour| hour.places as f64), 0.0);
    let bound = MIN_PLACES.max((MARGIN * most) as u64 + 1);
    (observed >= bound).then_some(Excess { observed, expected, bound })
}
