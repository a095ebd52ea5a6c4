//! Instants. This crate only compares them; reading a clock is up to its users.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A wall-clock instant: milliseconds since 1970-01-01T00:00:00Z. Used for expiries and audit times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// A monotonic instant: nanoseconds since an arbitrary start, on a clock that never steps back or jumps.
///
/// Rate limits use this clock, so that adjusting the wall clock neither refills nor blocks a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicNanos(pub u64);

// === impl UnixMillis ===

impl UnixMillis {
    /// RFC 3339 in UTC, to the millisecond, such as `2026-03-01T12:00:00.000Z`. `None` after the year 9999,
    /// which the format cannot represent.
    pub fn to_rfc3339(self) -> Option<String> {
        const DAY: u64 = 24 * 3_600_000;
        const LAST: u64 = 253_402_300_799_999;
        if self.0 > LAST {
            return None;
        }
        let (date, time) = (date_of_day(self.0 / DAY), self.0 % DAY);
        let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
        let (second, milli) = (time / 1_000 % 60, time % 1_000);
        Some(format!("{date}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"))
    }
}

/// Formats the day `day` days after 1970-01-01 as `YYYY-MM-DD`.
fn date_of_day(mut day: u64) -> String {
    let mut year = 1970;
    while day >= 365 + leap_days(year) {
        day -= 365 + leap_days(year);
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + leap_days(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", day + 1)
}

/// 1 in a leap year of the Gregorian calendar, else 0.
fn leap_days(year: u64) -> u64 {
    let leaps = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    u64::from(leaps)
}

// === impl MonotonicNanos ===

impl MonotonicNanos {
    /// The instant `pause` after this one.
    pub fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn instants_are_formatted_as_rfc3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (1_772_366_400_007, "2026-03-01T12:00:00.007Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(UnixMillis(millis).to_rfc3339().as_deref(), Some(text));
        }
        assert_eq!(UnixMillis(253_402_300_800_000).to_rfc3339(), None);
        assert_eq!(UnixMillis(u64::MAX).to_rfc3339(), None);
    }
}
