//! The generic cell rate algorithm: a token bucket whose whole state is one instant.
//!
//! The state is the theoretical arrival time (TAT) of ITU-T I.371: the instant at which the bucket will be
//! full again. A call of cost 1 moves it one emission interval into the future; a call is refused if that
//! would move it more than a whole bucket ahead of the current time. Only time refills the bucket.

use core::num::NonZeroU32;

use crate::time::MonotonicNanos;

/// The theoretical arrival time. Zero is an unused bucket, which is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tat(pub u64);

/// A rate and a bucket size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    /// Time in which one token is refilled, in nanoseconds, rounded up so that the rate is never exceeded.
    interval: u64,
    /// Time in which an empty bucket fills, in nanoseconds: the interval times the bucket size.
    capacity: u64,
}

/// The decision on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call is admitted; this is the new state.
    Admitted(Tat),
    /// The call is refused and not charged. The same call is admitted after `wait` without others.
    Refused {
        /// Time to wait, in nanoseconds.
        wait: u64,
    },
}

impl Gcra {
    /// Creates a limit of `limit` calls in `window` nanoseconds, with at most `burst` calls at once.
    pub fn new(limit: NonZeroU32, window: u64, burst: NonZeroU32) -> Self {
        let interval = window.div_ceil(u64::from(limit.get())).max(1);
        Self { interval, capacity: interval.saturating_mul(u64::from(burst.get())) }
    }

    /// Charges a call of `cost` tokens at `now`. A cost above the bucket size is never admitted.
    pub fn charge(&self, state: Tat, now: MonotonicNanos, cost: u32) -> Verdict {
        let needed = self.interval.saturating_mul(u64::from(cost));
        let backlog = self.backlog(state, now).saturating_add(needed);
        match backlog.checked_sub(self.capacity) {
            None | Some(0) => Verdict::Admitted(Tat(now.0.saturating_add(backlog))),
            Some(wait) => Verdict::Refused { wait },
        }
    }

    /// Number of calls that would be admitted at `now`.
    pub fn remaining(&self, state: Tat, now: MonotonicNanos) -> u32 {
        let free = self.capacity.saturating_sub(self.backlog(state, now));
        u32::try_from(free / self.interval).unwrap_or(u32::MAX)
    }

    /// Time until the bucket is full, in nanoseconds.
    pub fn until_full(&self, state: Tat, now: MonotonicNanos) -> u64 {
        self.backlog(state, now)
    }

    /// How far the state is ahead of `now`, in nanoseconds. More than a whole bucket if the bucket was larger before,
    /// or the clock stepped back: charges are kept, and the returned wait stays correct.
    fn backlog(&self, state: Tat, now: MonotonicNanos) -> u64 {
        state.0.saturating_sub(now.0)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn gcra(limit: u32, window: u64, burst: u32) -> Gcra {
        Gcra::new(NonZeroU32::new(limit).unwrap(), window, NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn a_full_bucket_admits_the_burst_and_then_one_call_per_interval() {
        let gcra = gcra(60, 60 * SECOND, 3);
        let mut state = Tat::default();
        let start = 1_000 * SECOND;
        for left in [2, 1, 0] {
            let Verdict::Admitted(next) = gcra.charge(state, MonotonicNanos(start), 1) else {
                panic!("refused")
            };
            state = next;
            assert_eq!(gcra.remaining(state, MonotonicNanos(start)), left);
        }
        assert_eq!(gcra.charge(state, MonotonicNanos(start), 1), Verdict::Refused { wait: SECOND });
        assert_eq!(gcra.until_full(state, MonotonicNanos(start)), 3 * SECOND);
        let later = MonotonicNanos(start + SECOND);
        assert!(matches!(gcra.charge(state, later, 1), Verdict::Admitted(_)));
    }

    proptest! {
        /// However the clock moves, the admitted calls are at most the bucket and what forward time has
        /// refilled.
        #[test]
        fn admitted_calls_never_exceed_the_bucket_and_its_refill(
            limit in 1u32..5_000,
            burst in 1u32..300,
            window in prop::sample::select(vec![60 * SECOND, 3_600 * SECOND]),
            start in 0u64..1 << 60,
            steps in prop::collection::vec((-5 * SECOND as i64..5 * SECOND as i64, 1u32..4), 1..400),
        ) {
            let gcra = gcra(limit, window, burst);
            let (mut now, mut state, mut admitted, mut forward) = (start, Tat::default(), 0u128, 0u128);
            for (step, cost) in steps {
                let next = now.saturating_add_signed(step);
                forward += u128::from(next.saturating_sub(now));
                now = next;
                match gcra.charge(state, MonotonicNanos(now), cost) {
                    Verdict::Admitted(next) => {
                        state = next;
                        admitted += u128::from(cost);
                    }
                    Verdict::Refused { wait } if cost <= burst => {
                        // Refused calls are not charged, and the wait is exact to the nanosecond.
                        let late = gcra.charge(state, MonotonicNanos(now + wait), cost);
                        prop_assert!(matches!(late, Verdict::Admitted(_)));
                        let early = gcra.charge(state, MonotonicNanos(now + wait - 1), cost);
                        let refused = matches!(early, Verdict::Refused { .. });
                        prop_assert!(refused, "the wait is too long");
                    }
                    Verdict::Refused { .. } => {}
                }
                prop_assert!(gcra.remaining(state, MonotonicNanos(now)) <= burst);
            }
            let refilled = forward * u128::from(limit) / u128::from(window);
            prop_assert!(admitted <= u128::from(burst) + refilled, "{admitted} > {burst} + {refilled}");
        }

        #[test]
        fn remaining_calls_are_admitted_at_once(limit in 1u32..1_000, burst in 1u32..100, used in 0u32..200, gap in 0u64..SECOND) {
            let gcra = gcra(limit, 60 * SECOND, burst);
            let mut state = Tat::default();
            let mut now = MonotonicNanos(SECOND);
            for _ in 0..used {
                if let Verdict::Admitted(next) = gcra.charge(state, now, 1) {
                    state = next;
                }
                now.0 += gap;
            }
            let remaining = gcra.remaining(state, now);
            for _ in 0..remaining {
                let Verdict::Admitted(next) = gcra.charge(state, now, 1) else { panic!("fewer than remaining") };
                state = next;
            }
            let refused = matches!(gcra.charge(state, now, 1), Verdict::Refused { .. });
            prop_assert!(refused, "more than remaining");
        }

        #[test]
        fn extremes_never_panic(limit: u32, burst: u32, window: u64, state: u64, now: u64, cost: u32) {
            let gcra = gcra(limit.max(1), window, burst.max(1));
            let _ = gcra.charge(Tat(state), MonotonicNanos(now), cost);
            let _ = gcra.remaining(Tat(state), MonotonicNanos(now));
        }
    }
}
