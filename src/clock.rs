//! The wall clock and the monotonic clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use omniflow_policy::time::{MonotonicNanos, UnixMillis};

/// How long the wall clock is derived from the monotonic clock before both are read again. A VM that ticks reads both
/// ten times a second.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Both clocks at one instant. The wall clock is derived from the monotonic one, because each clock read is a host call.
#[derive(Clone, Copy)]
pub(crate) struct Clocks {
    monotonic: MonotonicNanos,
    /// Since the Unix epoch.
    wall: Duration,
}

impl Clocks {
    /// Reads both clocks.
    pub(crate) fn read() -> Self {
        Self { monotonic: monotonic(), wall: wall() }
    }

    /// Whether the wall clock may have been changed in the meantime.
    pub(crate) fn is_stale(&self, now: MonotonicNanos) -> bool {
        now.since(self.monotonic) > MAX_AGE
    }

    /// The wall clock at `now`.
    pub(crate) fn wall_clock(&self, now: MonotonicNanos) -> UnixMillis {
        millis(self.wall.saturating_add(now.since(self.monotonic)))
    }
}

/// The wall clock, for expiries and records.
pub(crate) fn now() -> UnixMillis {
    millis(wall())
}

#[expect(clippy::disallowed_methods, reason = "the only place that reads the wall clock")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(since: Duration) -> UnixMillis {
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The monotonic clock, for limits, leases and ages. All VMs of an Envoy read the same one.
#[cfg(target_os = "wasi")]
pub(crate) fn monotonic() -> MonotonicNanos {
    MonotonicNanos(crate::host::monotonic_nanos())
}

/// The monotonic clock outside a VM, where only unit tests run and no other VM reads it.
#[cfg(not(target_os = "wasi"))]
#[expect(clippy::disallowed_methods, reason = "unit tests have no host that provides the time")]
pub(crate) fn monotonic() -> MonotonicNanos {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    MonotonicNanos(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_follows_the_monotonic_clock() {
        let clocks = Clocks { monotonic: MonotonicNanos(5_000_000_000), wall: Duration::from_millis(70_000) };
        let later = MonotonicNanos(5_250_900_000);
        assert_eq!(clocks.wall_clock(later), UnixMillis(70_250));
        assert!(!clocks.is_stale(later));
        assert!(clocks.is_stale(MonotonicNanos(6_000_000_001)));
    }
}
