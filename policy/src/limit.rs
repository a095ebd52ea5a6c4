//! A key's limits per minute and per hour, decided together: a call passes all of them or costs none.

use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::gcra::{Gcra, Tat, Verdict};
use crate::time::MonotonicNanos;

/// The most calls that a limit or a burst may state.
pub const MAX_LIMIT: u32 = 1_000_000;
/// Calls a minute for a key whose maker states no limit.
pub const DEFAULT_PER_MINUTE: u32 = 60;

const SECOND: u64 = 1_000_000_000;

/// What a key may spend. At least one of minute and hour is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Calls in a minute, sustained.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Calls in an hour, sustained.
    #[serde(default)]
    pub per_hour: Option<u32>,
    /// Calls at once under the shorter of the limits; without it, that limit itself.
    #[serde(default)]
    pub burst: Option<u32>,
}

/// A limit that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRateLimit {
    /// Neither a minute nor an hour is limited.
    #[error("state per_minute, per_hour or both: every key has a limit")]
    Unlimited,
    /// A number is zero or too large.
    #[error("{field} is {value}: it must be between 1 and {MAX_LIMIT}")]
    OutOfRange {
        /// Which field: `per_minute`, `per_hour` or `burst`.
        field: &'static str,
        /// What was stated.
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

/// The state of a key's limits: 8 bytes each, the same place whether or not the limit is set today.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitState {
    minute: Tat,
    hour: Tat,
}

/// What a caller is told of its limits: those of the tightest, the one with the fewest calls left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReport {
    /// Which limit this speaks of.
    pub window: Window,
    /// Calls in the window, sustained.
    pub limit: u32,
    /// Calls that would pass right now.
    pub remaining: u32,
    /// Seconds from now until nothing is owed, rounded up and at least 1.
    pub reset_seconds: u64,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitDecision {
    /// It passes; `state` must be stored, with compare-and-swap where others write too.
    Admitted {
        /// The state after this call.
        state: LimitState,
        /// What the caller is told.
        report: LimitReport,
    },
    /// It is refused and the state stays as it is.
    Refused {
        /// What the caller is told.
        report: LimitReport,
        /// Whole seconds after which this call passes if no other comes before it. At least 1.
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
    /// Checks that the limit can be kept.
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

    /// Spends one call if every limit has one left.
    pub fn take(&self, state: LimitState, now: MonotonicNanos) -> LimitDecision {
        let mut next = state;
        let mut wait: Option<(Window, u64)> = None;
        for (window, gcra) in self.gcras() {
            match gcra.take(state.get(window), now, 1) {
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

    /// What the caller would be told now, without spending anything.
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
            limit: self.stated(window).unwrap_or(0),
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
        let limit = NonZeroU32::new(self.stated(window)?)?;
        // The burst belongs to the shorter limit; the hour's bucket is its limit when a minute's limit is set too.
        let own_burst = window == Window::Minute || self.per_minute.is_none();
        let burst = self.burst.filter(|_| own_burst).and_then(NonZeroU32::new).unwrap_or(limit);
        Some(Gcra::new(limit, window.seconds() * SECOND, burst))
    }

    fn stated(&self, window: Window) -> Option<u32> {
        match window {
            Window::Minute => self.per_minute,
            Window::Hour => self.per_hour,
        }
    }
}

// === impl Window ===

impl Window {
    /// Its length.
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
    /// Bytes of the stored form.
    pub const SIZE: usize = 16;

    /// The stored form: both instants, little-endian, the minute's first.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        (u128::from(self.minute.0) | u128::from(self.hour.0) << 64).to_le_bytes()
    }

    /// Reads the stored form. Anything but [`Self::SIZE`] bytes is `None`.
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
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;

    const NOW: MonotonicNanos = MonotonicNanos(500 * SECOND);

    fn limit(per_minute: Option<u32>, per_hour: Option<u32>, burst: Option<u32>) -> RateLimit {
        RateLimit { per_minute, per_hour, burst }
    }

    fn spend(limit: RateLimit, mut state: LimitState, now: MonotonicNanos, calls: u32) -> (u32, LimitState) {
        let mut passed = 0;
        for _ in 0..calls {
            if let LimitDecision::Admitted { state: next, .. } = limit.take(state, now) {
                state = next;
                passed += 1;
            }
        }
        (passed, state)
    }

    #[test]
    fn the_tightest_limit_decides_and_is_told() {
        let both = limit(Some(10), Some(15), None);
        let (passed, state) = spend(both, LimitState::default(), NOW, 20);
        assert_eq!(passed, 10);
        let LimitDecision::Refused { report, retry_after_seconds } = both.take(state, NOW) else { panic!() };
        assert_eq!((report.window, report.limit, report.remaining), (Window::Minute, 10, 0));
        assert_eq!(retry_after_seconds, 6);
        let minute_later = MonotonicNanos(NOW.0 + 60 * SECOND);
        let (passed, state) = spend(both, state, minute_later, 20);
        assert_eq!(passed, 5, "the hour's limit is left with five");
        let LimitDecision::Refused { report, retry_after_seconds } = both.take(state, minute_later) else {
            panic!()
        };
        assert_eq!((report.window, report.limit), (Window::Hour, 15));
        assert_eq!(retry_after_seconds, 180, "an hour's token comes back every 240 s, and 60 s have passed");
    }

    #[test]
    fn a_refusal_by_one_limit_spends_nothing_of_the_other() {
        let both = limit(Some(1), Some(100), None);
        let (_, state) = spend(both, LimitState::default(), NOW, 50);
        let hour_only = limit(None, Some(100), None);
        assert_eq!(hour_only.report(state, NOW).remaining, 99);
    }

    #[test]
    fn a_changed_limit_refills_nothing() {
        let (_, state) = spend(limit(Some(60), None, None), LimitState::default(), NOW, 60);
        for changed in
            [limit(Some(600), None, None), limit(Some(6), None, None), limit(Some(60), Some(5), None)]
        {
            let report = changed.take(state, NOW);
            assert!(matches!(report, LimitDecision::Refused { .. }), "{changed:?}");
        }
    }

    #[test]
    fn the_burst_belongs_to_the_shorter_limit() {
        assert_eq!(spend(limit(Some(60), Some(500), Some(5)), LimitState::default(), NOW, 100).0, 5);
        assert_eq!(spend(limit(None, Some(500), Some(7)), LimitState::default(), NOW, 100).0, 7);
    }

    #[test]
    fn validation_names_the_field() {
        assert_eq!(RateLimit::default().validate(), Ok(()));
        assert_eq!(limit(None, None, Some(3)).validate(), Err(InvalidRateLimit::Unlimited));
        let error = limit(Some(0), None, None).validate().unwrap_err();
        assert_eq!(error.to_string(), "per_minute is 0: it must be between 1 and 1000000");
        assert!(limit(Some(1), Some(1_000_001), None).validate().is_err());
    }

    proptest! {
        #[test]
        fn state_survives_storage(minute: u64, hour: u64, other: Vec<u8>) {
            let state = LimitState { minute: Tat(minute), hour: Tat(hour) };
            prop_assert_eq!(LimitState::from_bytes(&state.to_bytes()), Some(state));
            prop_assert_eq!(LimitState::from_bytes(&other).is_some(), other.len() == LimitState::SIZE);
        }

        /// A client that waits as told gets through, whatever the limits.
        #[test]
        fn retry_after_is_truthful(
            per_minute in prop::option::of(1u32..200),
            per_hour in prop::option::of(1u32..500),
            burst in prop::option::of(1u32..50),
            gaps in prop::collection::vec(0u64..2 * SECOND, 1..200),
        ) {
            let limit = limit(per_minute, per_hour, burst);
            prop_assume!(limit.validate().is_ok());
            let (mut state, mut now) = (LimitState::default(), NOW);
            for gap in gaps {
                now.0 += gap;
                match limit.take(state, now) {
                    LimitDecision::Admitted { state: next, report } => {
                        prop_assert!(report.reset_seconds >= 1);
                        state = next;
                    }
                    LimitDecision::Refused { retry_after_seconds, report } => {
                        prop_assert_eq!(report.remaining, 0);
                        now.0 += retry_after_seconds * SECOND;
                        let admitted = matches!(limit.take(state, now), LimitDecision::Admitted { .. });
                        prop_assert!(admitted);
                    }
                }
            }
        }
    }
}
