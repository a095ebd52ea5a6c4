//! Volume spikes: many more calls than usual for the key at this hour.
//!
//! The usual number at an hour is the larger of two means over the preceding days: that of the same hour of the week,
//! and that of the same hour of the day. The larger one is used because a key that is only used on Tuesdays is not
//! unusual on a Tuesday, and a key with a single week of history should be compared with all its days. Each day counts
//! with the busiest of three adjacent hours, so that a nightly batch may begin a little earlier or later.
//!
//! Unlike in other rules, the most unusual hour of the history counts: bursts are rare, of any size, and last an hour
//! or two, so ignoring one would make every larger burst an anomaly.

use super::{Excess, HISTORY_HOURS, History, KeyHour, MARGIN, RECENT_HOURS};

/// Minimum number of calls in an hour that counts as a spike: as many as the default limit allows in a minute.
pub(super) const MIN_CALLS: u64 = 60;
/// Calls added to both sides of a ratio, so that few calls do not produce a large ratio: twenty calls vary by about a
/// fifth by chance alone (Poisson), a hundred by a tenth.
const PADDING: f64 = 20.0;
/// Minimum ratio that counts as a spike. Ordinary service traffic doubles occasionally.
const MIN_RATIO: f64 = 3.0;
/// Minimum ratio for a rarely used key, which has no rhythm to compare with.
const MIN_RATIO_SELDOM: f64 = 10.0;
/// A key with calls in fewer hours of its history than this is rarely used: less than one hour a day.
const SELDOM_HOURS: usize = 28;

const DAY: u64 = 24;
const WEEK: u64 = 7 * DAY;

/// Sums over the days of a history, by hour of the day and of the week.
struct Profile {
    daily: [(f64, u32); DAY as usize],
    weekly: Vec<(f64, u32)>,
}

/// Whether an hour has too many calls.
pub(super) fn judge(history: &History, present: KeyHour) -> Option<Excess> {
    if present.calls < MIN_CALLS {
        return None;
    }
    let first = history.since.max(present.hour.saturating_sub(HISTORY_HOURS));
    let peaks = peaks(history, first, present.hour.saturating_sub(RECENT_HOURS));
    let profile = Profile::of(&peaks, first);
    let expected = profile.usual(present.hour, None);
    let surprises =
        (first..).zip(&peaks).map(|(hour, peak)| ratio(peak.calls, profile.usual(hour, Some(peak.around))));
    let least = if history.hours.len() < SELDOM_HOURS { MIN_RATIO_SELDOM } else { MIN_RATIO };
    let needed = least.max(MARGIN * surprises.fold(1.0, f64::max));
    let bound = (needed * (expected + PADDING) - PADDING).ceil().max(MIN_CALLS as f64) as u64;
    (present.calls >= bound).then_some(Excess { observed: present.calls, expected, bound })
}

fn ratio(calls: f64, usual: f64) -> f64 {
    (calls + PADDING) / (usual + PADDING)
}

/// The calls in an hour, and in the busiest of the three hours around it.
#[derive(Clone, Copy)]
struct Peak {
    calls: f64,
    around: f64,
}

/// Every hour from `first` to before `end`.
fn peaks(history: &History, first: u64, end: u64) -> Vec<Peak> {
    let length = usize::try_from(end.saturating_sub(first)).unwrap_or_default();
    let mut calls = vec![0.0; length];
    for hour in &history.hours {
        let place = hour.hour.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        if let Some(slot) = place.and_then(|place| calls.get_mut(place)) {
            *slot = hour.calls as f64;
        }
    }
    let at = |place: Option<usize>| place.and_then(|place| calls.get(place)).copied().unwrap_or_default();
    let peak = |(place, own): (usize, &f64)| {
        let around = own.max(at(place.checked_sub(1))).max(at(place.checked_add(1)));
        Peak { calls: *own, around }
    };
    calls.iter().enumerate().map(peak).collect()
}

// === impl Profile ===

impl Profile {
    fn of(peaks: &[Peak], first: u64) -> Self {
        let mut profile = Self { daily: Default::default(), weekly: vec![(0.0, 0); WEEK as usize] };
        for (hour, peak) in (first..).zip(peaks) {
            let cells = [
                profile.daily.get_mut((hour % DAY) as usize),
                profile.weekly.get_mut((hour % WEEK) as usize),
            ];
            for (sum, count) in cells.into_iter().flatten() {
                *sum += peak.around;
                *count += 1;
            }
        }
        profile
    }

    /// The usual number of calls at an hour. An hour of the history is compared with the others: `own` is its own
    /// contribution.
    fn usual(&self, hour: u64, own: Option<f64>) -> f64 {
        let mean = |cell: Option<&(f64, u32)>| {
            let (sum, count) = *cell?;
            let (sum, count) = own.map_or((sum, count), |own| (sum - own, count.saturating_sub(1)));
            (count > 0).then(|| sum / f64::from(count))
        };
        let daily = mean(self.daily.get((hour % DAY) as usize));
        let weekly = mean(self.weekly.get((hour % WEEK) as usize));
        daily.unwrap_or_default().max(weekly.unwrap_or_default()).max(0.0)
    }
}
