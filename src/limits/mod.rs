//! Rate limits: one entry per key in shared data, changed by compare-and-swap and therefore exact across all workers.

use omniflow_policy::limit::{INTROSPECTION_LIMIT, LimitDecision, LimitReport, LimitState, RateLimit};
use omniflow_policy::time::MonotonicNanos;
use uuid::Uuid;

use crate::workers::shared_data::{self, Names};

/// Maximum number of compare-and-swap attempts before the call is refused. Each failed attempt means that another
/// worker succeeded, so this many failures in a row indicate a fault. No call is allowed without being counted.
const MAX_ATTEMPTS: usize = 10_000;

/// Charges one call to a key if its limits allow it. `None` if the entry could not be written.
pub(crate) fn charge(
    names: &Names,
    key: Uuid,
    limit: &RateLimit,
    now: MonotonicNanos,
) -> Option<LimitDecision> {
    charge_entry(&names.limit(key), limit, now)
}

/// Charges one introspection to a key, but not to the key's own limits. `None` if the entry could not be written.
pub(crate) fn charge_introspection(names: &Names, key: Uuid, now: MonotonicNanos) -> Option<LimitDecision> {
    charge_entry(&names.introspection_limit(key), &INTROSPECTION_LIMIT, now)
}

fn charge_entry(name: &str, limit: &RateLimit, now: MonotonicNanos) -> Option<LimitDecision> {
    for _ in 0..MAX_ATTEMPTS {
        let read = shared_data::get_counter(name);
        let decision = limit.charge(decode(read.value.as_deref()), now);
        match decision {
            LimitDecision::Refused { .. } => return Some(decision),
            LimitDecision::Admitted { state, .. } => {
                if shared_data::swap_counter(name, &read, &state.to_bytes()).is_ok() {
                    return Some(decision);
                }
            }
        }
    }
    None
}

/// The state of a key's limits, without a charge.
pub(crate) fn report(names: &Names, key: Uuid, limit: &RateLimit, now: MonotonicNanos) -> LimitReport {
    limit.report(decode(shared_data::get_counter(&names.limit(key)).value.as_deref()), now)
}

fn decode(bytes: Option<&[u8]>) -> LimitState {
    bytes.and_then(LimitState::from_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicNanos = MonotonicNanos(1_000_000_000);

    #[test]
    fn each_call_is_charged_once_until_the_limit_is_reached() {
        let (names, key) = (Names::for_test("counters"), Uuid::from_u128(5));
        let limit = RateLimit { per_minute: Some(3), per_hour: None, burst: None };
        let admitted = || matches!(charge(&names, key, &limit, NOW), Some(LimitDecision::Admitted { .. }));
        assert_eq!([(); 5].map(|()| admitted()), [true, true, true, false, false]);
        assert_eq!(report(&names, key, &limit, NOW).remaining, 0);
        assert_eq!(report(&names, Uuid::from_u128(6), &limit, NOW).remaining, 3, "another key has its own");
    }

    #[test]
    fn introspection_has_a_limit_of_its_own_per_key() {
        let (names, key) = (Names::for_test("introspection"), Uuid::from_u128(5));
        let limit = RateLimit { per_minute: Some(3), per_hour: None, burst: None };
        let asked =
            |key| matches!(charge_introspection(&names, key, NOW), Some(LimitDecision::Admitted { .. }));
        let burst = INTROSPECTION_LIMIT.per_minute.unwrap_or(0);
        assert_eq!((0..1_000).filter(|_| asked(key)).count(), burst as usize);
        assert!(asked(Uuid::from_u128(6)), "another key has its own");
        assert_eq!(report(&names, key, &limit, NOW).remaining, 3, "the key's own limits are not charged");
    }
}
