//! Values formatted for display.

use std::fmt;

use askama::filters::HtmlSafe;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::time::UnixMillis;

use omniflow_domain::key::KeyStatus;
use omniflow_domain::time::format_time;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A time: `2026-03-01 12:00 UTC`. The script converts it to the local zone, with UTC in a tooltip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At(pub(super) UnixMillis);

/// A time relative to now: `3 days ago`, `in 5 min`, with the absolute time in a tooltip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ago {
    /// Time.
    pub(super) time: UnixMillis,
    /// Current time.
    pub(super) now: UnixMillis,
}

/// The remaining time to a time in the future: `23 h 59 min`. The script counts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Until {
    /// Time.
    pub(super) time: UnixMillis,
    /// Current time.
    pub(super) now: UnixMillis,
}

/// A status as a badge, distinguished by shape, text and color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Badge(pub(super) KeyStatus);

/// A number with separators: `12,345`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count(pub(super) u64);

/// Limits in short form: `60/min, burst 20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit(pub(super) RateLimit);

impl HtmlSafe for At {}
impl HtmlSafe for Ago {}
impl HtmlSafe for Until {}
impl HtmlSafe for Badge {}
impl HtmlSafe for Count {}
impl HtmlSafe for Limit {}

/// A time to the second: `2026-03-01 12:00:07 UTC`. The script converts it to the local zone, with UTC in a tooltip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) UnixMillis);

/// A duration in microseconds, with the unit that suits its size: `12 ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Micros(pub(super) u64);

/// A number of bytes, with the unit that suits its size: `1.2 KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl HtmlSafe for Moment {}
impl HtmlSafe for Micros {}
impl HtmlSafe for Bytes {}

/// `2026-03-01 12:00:07 UTC`.
pub(super) fn utc_seconds(time: UnixMillis) -> String {
    let text = format_time(time);
    let (date, rest) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", rest.get(..8).unwrap_or_default())
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (iso, utc) = (format_time(self.0), utc_seconds(self.0));
        write!(f, "<time data-zone=\"seconds\" datetime=\"{iso}\">{utc}</time>")
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            micros if micros < 1_000 => write!(f, "{micros} µs"),
            micros if micros < 10_000 => write!(f, "{:.1} ms", micros as f64 / 1_000.0),
            micros if micros < 1_000_000 => write!(f, "{} ms", micros / 1_000),
            micros => write!(f, "{:.1} s", micros as f64 / 1_000_000.0),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes < 1_024 => write!(f, "{bytes} B"),
            bytes if bytes < 1_024 * 1_024 => write!(f, "{:.1} KiB", bytes as f64 / 1_024.0),
            bytes => write!(f, "{:.1} MiB", bytes as f64 / (1_024.0 * 1_024.0)),
        }
    }
}

/// `2026-03-01 12:00 UTC`.
pub(super) fn utc(time: UnixMillis) -> String {
    let text = format_time(time);
    let (date, rest) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", rest.get(..5).unwrap_or_default())
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<time data-zone datetime=\"{}\">{}</time>", format_time(self.0), utc(self.0))
    }
}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match (self.now.0.checked_sub(self.time.0), self.time.0.saturating_sub(self.now.0)) {
            (Some(passed), _) if passed < MINUTE => "just now".to_owned(),
            (Some(passed), _) => format!("{} ago", roughly(passed)),
            (None, ahead) => format!("in {}", roughly(ahead)),
        };
        let (iso, utc) = (format_time(self.time), utc(self.time));
        write!(f, "<time data-title datetime=\"{iso}\" title=\"{utc}\">{words}</time>")
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.time.0.saturating_sub(self.now.0) {
            0 => "0 s".to_owned(),
            ahead if ahead < HOUR => format!("{} min {} s", ahead / MINUTE, ahead % MINUTE / SECOND),
            ahead if ahead < DAY => format!("{} h {} min", ahead / HOUR, ahead % HOUR / MINUTE),
            ahead => format!("{} d {} h", ahead / DAY, ahead % DAY / HOUR),
        };
        let (iso, utc) = (format_time(self.time), utc(self.time));
        write!(f, "<time data-countdown datetime=\"{iso}\" title=\"{utc}\">{words}</time>")
    }
}

/// Formats a duration in the largest unit that fits.
fn roughly(time: u64) -> String {
    let (number, unit) = match time {
        time if time < HOUR => (time / MINUTE, "min"),
        time if time < DAY => (time / HOUR, "h"),
        time if time < 2 * DAY => return "1 day".to_owned(),
        time if time < 60 * DAY => (time / DAY, "days"),
        time if time < 730 * DAY => (time / (30 * DAY), "months"),
        time => (time / (365 * DAY), "years"),
    };
    format!("{number} {unit}")
}

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span class=\"badge {0}\">{0}</span>", self.0)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RateLimit { per_minute, per_hour, burst } = self.0;
        let parts = [(per_minute, "", "/min"), (per_hour, "", "/h"), (burst, "burst ", "")];
        let stated = parts.iter().filter_map(|(number, before, unit)| number.map(|n| (n, before, unit)));
        for (place, (number, before, unit)) in stated.enumerate() {
            let separator = if place > 0 { ", " } else { "" };
            write!(f, "{separator}{before}{}{unit}", Count(u64::from(number)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    #[test]
    fn instants_are_reported_beside_now() {
        let ago = |millis: i64| {
            let time = UnixMillis(NOW.0.checked_add_signed(millis).unwrap());
            let html = Ago { time, now: NOW }.to_string();
            html.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned()
        };
        let day = 86_400_000;
        for (millis, expected) in [
            (0, "just now"),
            (-59_999, "just now"),
            (-60_000, "1 min ago"),
            (-day, "1 day ago"),
            (-59 * day, "59 days ago"),
            (-60 * day, "2 months ago"),
            (-730 * day, "2 years ago"),
            (90_000, "in 1 min"),
            (3 * day, "in 3 days"),
        ] {
            assert_eq!(ago(millis), expected, "{millis}");
        }
        let html = Ago { time: NOW, now: NOW }.to_string();
        assert!(
            html.contains("datetime=\"2027-01-15T08:00:00.000Z\" title=\"2027-01-15 08:00 UTC\""),
            "{html}"
        );
    }

    #[test]
    fn durations_and_sizes_have_a_suitable_unit() {
        let texts = [999, 1_000, 9_940, 12_300, 1_500_000].map(|micros| Micros(micros).to_string());
        assert_eq!(texts, ["999 µs", "1.0 ms", "9.9 ms", "12 ms", "1.5 s"]);
        let texts = [1_023, 1_536, 3 * 1_024 * 1_024].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(texts, ["1023 B", "1.5 KiB", "3.0 MiB"]);
        assert!(Moment(NOW).to_string().contains(">2027-01-15 08:00:00 UTC<"));
    }

    #[test]
    fn numbers_and_limits_are_readable() {
        let count = |n| Count(n).to_string();
        assert_eq!(
            [count(0), count(999), count(1_000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        let limit =
            |per_minute, per_hour, burst| Limit(RateLimit { per_minute, per_hour, burst }).to_string();
        assert_eq!(limit(Some(60), None, None), "60/min");
        assert_eq!(limit(Some(600), Some(10_000), Some(20)), "600/min, 10,000/h, burst 20");
    }
}
