#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use proptest::prelude::*;

use super::*;

const NOW: MonotonicNanos = MonotonicNanos(500 * SECOND);

fn limit(per_minute: Option<u32>, per_hour: Option<u32>, burst: Option<u32>) -> RateLimit {
    RateLimit { per_minute, per_hour, burst }
}

fn charge(limit: RateLimit, mut state: LimitState, now: MonotonicNanos, calls: u32) -> (u32, LimitState) {
    let mut passed = 0;
    for _ in 0..calls {
        if let LimitDecision::Admitted { state: next, .. } = limit.charge(state, now) {
            state = next;
            passed += 1;
        }
    }
    (passed, state)
}

#[test]
fn the_tightest_limit_decides_and_is_reported() {
    let both = limit(Some(10), Some(15), None);
    let (passed, state) = charge(both, LimitState::default(), NOW, 20);
    assert_eq!(passed, 10);
    let LimitDecision::Refused { report, retry_after_seconds } = both.charge(state, NOW) else { panic!() };
    assert_eq!((report.window, report.limit, report.remaining), (Window::Minute, 10, 0));
    assert_eq!(retry_after_seconds, 6);
    let minute_later = MonotonicNanos(NOW.0 + 60 * SECOND);
    let (passed, state) = charge(both, state, minute_later, 20);
    assert_eq!(passed, 5, "five calls of the hourly limit remain");
    let LimitDecision::Refused { report, retry_after_seconds } = both.charge(state, minute_later) else {
        panic!()
    };
    assert_eq!((report.window, report.limit), (Window::Hour, 15));
    assert_eq!(
        retry_after_seconds, 180,
        "a token of the hourly limit is refilled every 240 s, and 60 s have passed"
    );
}

#[test]
fn a_call_that_one_limit_refuses_is_not_charged_to_the_other() {
    let both = limit(Some(1), Some(100), None);
    let (_, state) = charge(both, LimitState::default(), NOW, 50);
    let hour_only = limit(None, Some(100), None);
    assert_eq!(hour_only.report(state, NOW).remaining, 99);
}

#[test]
fn changing_a_limit_does_not_refill_it() {
    let (_, state) = charge(limit(Some(60), None, None), LimitState::default(), NOW, 60);
    for changed in [limit(Some(600), None, None), limit(Some(6), None, None), limit(Some(60), Some(5), None)]
    {
        let report = changed.charge(state, NOW);
        assert!(matches!(report, LimitDecision::Refused { .. }), "{changed:?}");
    }
}

#[test]
fn the_burst_applies_to_the_shorter_window() {
    assert_eq!(charge(limit(Some(60), Some(500), Some(5)), LimitState::default(), NOW, 100).0, 5);
    assert_eq!(charge(limit(None, Some(500), Some(7)), LimitState::default(), NOW, 100).0, 7);
}

#[test]
fn validation_errors_name_the_field() {
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

    /// A client that waits for Retry-After is admitted, whatever the limits.
    #[test]
    fn a_call_is_admitted_after_retry_after(
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
            match limit.charge(state, now) {
                LimitDecision::Admitted { state: next, report } => {
                    prop_assert!(report.reset_seconds >= 1);
                    state = next;
                }
                LimitDecision::Refused { retry_after_seconds, report } => {
                    prop_assert_eq!(report.remaining, 0);
                    now.0 += retry_after_seconds * SECOND;
                    let admitted = matches!(limit.charge(state, now), LimitDecision::Admitted { .. });
                    prop_assert!(admitted);
                }
            }
        }
    }
}
