//! The two clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use omniflow_policy::time::{MonotonicNanos, UnixMillis};

/// How long the wall clock is reckoned from the other one. A VM that ticks looks ten times a second.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Both clocks at one instant, from which either is reckoned from the other: asking the host for a clock is a crossing.
#[derive(Clone, Copy)]
pub(crate) struct Clocks {
    monotonic: MonotonicNanos,
    /// Since the beginning of 1970.
    wall: Duration,
}

impl Clocks {
    /// Asks for both.
    pub(crate) fn read() -> Self {
        Self { monotonic: monotonic(), wall: wall() }
    }

    /// Whether the wall clock may have been set since.
    pub(crate) fn is_stale(&self, now: MonotonicNanos) -> bool {
        now.since(self.monotonic) > TRUSTED_FOR
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

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(since: Duration) -> UnixMillis {
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The clock that never steps, for limits, leases and ages. All VMs of an Envoy read the same one.
///
/// The standard library's `Instant` hides its number, which VMs would have to share; hence the system call itself.
#[cfg(target_os = "wasi")]
pub(crate) fn monotonic() -> MonotonicNanos {
    /// How exact the answer must be; the host ignores it.
    const PRECISION: u64 = 1;
    // SAFETY: the call takes no pointer from here. It is unsafe only because all of this interface is.
    #[allow(unsafe_code)]
    let nanos = unsafe { wasip1::clock_time_get(wasip1::CLOCKID_MONOTONIC, PRECISION) };
    MonotonicNanos(nanos.unwrap_or_default())
}

/// Outside a VM, where only unit tests run, no other VM reads this clock.
#[cfg(not(target_os = "wasi"))]
pub(crate) fn monotonic() -> MonotonicNanos {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    MonotonicNanos(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_goes_on_with_the_other_one() {
        let clocks = Clocks { monotonic: MonotonicNanos(5_000_000_000), wall: Duration::from_millis(70_000) };
        let later = MonotonicNanos(5_250_900_000);
        assert_eq!(clocks.wall_clock(later), UnixMillis(70_250));
        assert!(!clocks.is_stale(later));
        assert!(clocks.is_stale(MonotonicNanos(6_000_000_001)));
    }
}
