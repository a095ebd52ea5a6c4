//! Parsing and formatting of times and durations.

use std::time::Duration;

use jiff::Timestamp;
use omniflow_policy::time::UnixMillis;

/// An hour in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;
/// A day in milliseconds.
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// Parses RFC 3339 with any offset, to the millisecond. `None` for anything else and for times before 1970.
pub fn parse_time(text: &str) -> Option<UnixMillis> {
    let millis = text.parse::<Timestamp>().ok()?.as_millisecond();
    u64::try_from(millis).ok().map(UnixMillis)
}

/// Formats RFC 3339 in UTC. Later times than the year 9999 are written as its last instant.
pub fn format_time(time: UnixMillis) -> String {
    // The last time that can be parsed again.
    let last = u64::try_from(Timestamp::MAX.as_millisecond()).unwrap_or_default();
    UnixMillis(time.0.min(last)).to_rfc3339().unwrap_or_default()
}

/// Parses a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`, such as `5s`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number = number.parse::<u64>().ok()?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(HOUR_MS),
        "d" => number.checked_mul(DAY_MS),
        _ => None,
    };
    millis.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(format_time(UnixMillis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(format_time(UnixMillis(1_772_366_400_007)), "2026-03-01T12:00:00.007Z");
        assert_eq!(format_time(UnixMillis(u64::MAX)), "9999-12-30T22:00:00.999Z");
        assert_eq!(parse_time("2026-03-01T14:00:00.007+02:00"), Some(UnixMillis(1_772_366_400_007)));
        for wrong in ["", "2026-03-01", "yesterday", "1969-12-31T23:59:59Z", "1772366400"] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("1d"), parse_duration("24h"));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        for wrong in
            ["", "5", "s", "-5s", "5 s", "5w", "5D", "1.5h", "9999999999999d", "99999999999999999h", "５s"]
        {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
