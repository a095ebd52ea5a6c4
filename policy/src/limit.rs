//! The rate limits of a key, per minute and per hour, decided together: a call is charged to all of them or
//! to none.

use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::gcra::{Gcra, Tat, Verdict};
use crate::time::MonotonicNanos;

/// Maximum value of a limit or burst.
pub const MAX_LIMIT: u32 = 1_000_000;
/// Default limit of a new key, in calls per minute.
pub const DEFAULT_PER_MINUTE: u32 = 60;
/// The limit of each key on introspection, which is not charged to the limits of the key itself.
pub const INTROSPECTION_LIMIT: RateLimit = RateLimit { per_minute: Some(10), per_hour: None, burst: None };
/// The name of [`INTROSPECTION_LIMIT`] in problem documents, beside those of windows.
pub const INTROSPECTION_LIMIT_NAME: &str = "introspection";

const SECOND: u64 = 1_000_000_000;

/// The rate limits of a key. At least one of minute and hour is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Sustained calls per minute.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Sustained calls per hour.
    #[serde(default)]
    pub per_hour: Option<u32>,
    /// Maximum calls at once under the limit with the shorter window; by default, that limit itself.
    #[serde(default)]
    pub burst: Option<u32>,
}

/// Why a rate limit is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRateLimit {
    /// Neither `per_minute` nor `per_hour` is set.
    #[error("set per_minute, per_hour or both: every key must have a limit")]
    Unlimited,
    /// A value is zero or too large.
    #[error("{field} is {value}: it must be between 1 and {MAX_LIMIT}")]
    OutOfRange {
        /// The field: `per_minute`, `per_hour` or `burst`.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

/// The window of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
}

/// The state of a key's limits: 8 bytes for each window, in a fixed place whether or not the limit is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitState {
    minute: Tat,
    hour: Tat,
}

/// The state of the limit with the fewest remaining calls, as reported to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReport {
    /// The window of the limit.
    pub window: Window,
    /// Sustained calls per window.
    pub limit: u32,
    /// Number of calls that a full bucket admits at once: the burst, or the limit itself. Never below
    /// `remaining`.
    pub bucket: u32,
    /// Number of calls that would be admitted now.
    pub remaining: u32,
    /// Seconds until the bucket is full, rounded up, at least 1.
    pub reset_seconds: u64,
}

/// The decision on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitDecision {
    /// The call is admitted. `state` must be stored, with compare-and-swap if there are other writers.
    Admitted {
        /// The state after the call.
        state: LimitState,
        /// The report for the client.
        report: LimitReport,
    },
    /// The call is refused and the state does not change.
    Refused {
        /// The report for the client.
        report: LimitReport,
        /// Whole seconds after which the call is admitted if there are no others before it, at least 1.
        retry_after_seconds: u64,
    },
}

// === impl RateLimit ===

impl Default for RateLimit {
    fn default() -> Self {
        Self { per_minute: Some(DEFAULT_PER_MINUTE), per_hour: None, burst: None }
    }
}

impl RateLimit {
    /// Checks the values.
    pub fn validate(&self) -> Result<(), InvalidRateLimit> {
        let fields = [("per_minute", self.per_minute), ("per_hour", self.per_hour), ("burst", self.burst)];
        for (field, value) in fields {
            if let Some(value) = value.filter(|value| !(1..=MAX_LIMIT).contains(value)) {
                return Err(InvalidRateLimit::OutOfRange { field, value });
            }
        }
        if self.per_minute.is_none() && self.per_hour.is_none() {
            return Err(InvalidRateLimit::Unlimited);
        }
        Ok(())
    }

    /// Charges one call to every limit, if all of them admit it.
    pub fn charge(&self, state: LimitState, now: MonotonicNanos) -> LimitDecision {
        let mut next = state;
        let mut wait: Option<(Window, u64)> = None;
        for (window, gcra) in self.gcras() {
            match gcra.charge(state.get(window), now, 1) {
                Verdict::Admitted(tat) => next.set(window, tat),
                Verdict::Refused { wait: this } => {
                    if wait.is_none_or(|(_, longest)| this > longest) {
                        wait = Some((window, this));
                    }
                }
            }
        }
        match wait {
            None => LimitDecision::Admitted { state: next, report: self.report(next, now) },
            Some((window, wait)) => LimitDecision::Refused {
                report: self.report_of(window, state, now),
                retry_after_seconds: wait.div_ceil(SECOND).max(1),
            },
        }
    }

    /// Reports the current state without charging a call.
    pub fn report(&self, state: LimitState, now: MonotonicNanos) -> LimitReport {
        let mut tightest: Option<LimitReport> = None;
        for (window, _) in self.gcras() {
            let report = self.report_of(window, state, now);
            if tightest.is_none_or(|other| report.remaining < other.remaining) {
                tightest = Some(report);
            }
        }
        tightest.unwrap_or_else(|| self.report_of(Window::Minute, state, now))
    }

    fn report_of(&self, window: Window, state: LimitState, now: MonotonicNanos) -> LimitReport {
        let gcra = self.gcra(window);
        LimitReport {
            window,
            limit: self.limit_of(window).unwrap_or(0),
            bucket: self.bucket_of(window).unwrap_or(0),
            remaining: gcra.map_or(0, |gcra| gcra.remaining(state.get(window), now)),
            reset_seconds: gcra
                .map_or(0, |gcra| gcra.until_full(state.get(window), now))
                .div_ceil(SECOND)
                .max(1),
        }
    }

    fn gcras(&self) -> impl Iterator<Item = (Window, Gcra)> + use<> {
        let this = *self;
        [Window::Minute, Window::Hour]
            .into_iter()
            .filter_map(move |window| Some((window, this.gcra(window)?)))
    }

    fn gcra(&self, window: Window) -> Option<Gcra> {
        let limit = NonZeroU32::new(self.limit_of(window)?)?;
        let burst = NonZeroU32::new(self.bucket_of(window)?)?;
        Some(Gcra::new(limit, window.seconds() * SECOND, burst))
    }

    /// The bucket size. The burst applies to the shorter window. If a limit per minute is set too, the bucket of
    /// the hour has the size of its limit.
    fn bucket_of(&self, window: Window) -> Option<u32> {
        let limit = self.limit_of(window)?;
        let own_burst = window == Window::Minute || self.per_minute.is_none();
        Some(self.burst.filter(|burst| own_burst && *burst > 0).unwrap_or(limit))
    }

    fn limit_of(&self, window: Window) -> Option<u32> {
        match window {
            Window::Minute => self.per_minute,
            Window::Hour => self.per_hour,
        }
    }
}

// === impl Window ===

impl Window {
    /// Length in seconds.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// `minute` or `hour`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

// === impl LimitState ===

impl LimitState {
    /// Size in bytes of the stored form.
    pub const SIZE: usize = 16;

    /// Encodes both instants, little-endian, the minute's first.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        (u128::from(self.minute.0) | u128::from(self.hour.0) << 64).to_le_bytes()
    }

    /// Decodes the stored form; `None` unless it has [`Self::SIZE`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let both = u128::from_le_bytes(bytes.try_into().ok()?);
        Some(Self { minute: Tat(both as u64), hour: Tat((both >> 64) as u64) })
    }

    fn get(self, window: Window) -> Tat {
        match window {
            Window::Minute => self.minute,
            Window::Hour => self.hour,
        }
    }

    fn set(&mut self, window: Window, tat: Tat) {
        match window {
            Window::Minute => self.minute = tat,
            Window::Hour => self.hour = tat,
        }
    }
}

#[cfg(test)]
mod tests;
