//! The two clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use omniflow_policy::time::{MonotonicNanos, UnixMillis};

/// The wall clock, for expiries and records.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
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
