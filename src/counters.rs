//! Rate-limit counters: one entry a key in shared data, changed by compare-and-swap, hence exact over all workers.

use omniflow_policy::limit::{LimitDecision, LimitReport, LimitState, RateLimit};
use omniflow_policy::time::MonotonicNanos;
use uuid::Uuid;

use crate::shared::{self, Names};

/// Rounds of compare-and-swap before a call is given up. Each lost round means that another worker has succeeded,
/// so this many in a row mean that something else is wrong; the call is refused then, never let through uncounted.
const MAX_ROUNDS: usize = 10_000;

/// Spends one call of a key if its limits allow it. `None` if the counter could not be changed.
pub(crate) fn take(
    names: &Names,
    key: Uuid,
    limit: &RateLimit,
    now: MonotonicNanos,
) -> Option<LimitDecision> {
    let name = names.limit(key);
    for _ in 0..MAX_ROUNDS {
        let read = shared::get(&name);
        let decision = limit.charge(state(read.value.as_deref()), now);
        match decision {
            LimitDecision::Refused { .. } => return Some(decision),
            LimitDecision::Admitted { state, .. } => {
                if shared::swap(&name, &read, &state.to_bytes()).is_ok() {
                    return Some(decision);
                }
            }
        }
    }
    None
}

/// What a caller is told of its limits, without spending anything.
pub(crate) fn report(names: &Names, key: Uuid, limit: &RateLimit, now: MonotonicNanos) -> LimitReport {
    limit.report(state(shared::get(&names.limit(key)).value.as_deref()), now)
}

fn state(bytes: Option<&[u8]>) -> LimitState {
    bytes.and_then(LimitState::from_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicNanos = MonotonicNanos(1_000_000_000);

    #[test]
    fn a_limit_is_spent_once_for_each_call_and_survives_everything_but_the_process() {
        let (names, key) = (Names::new("counters"), Uuid::from_u128(5));
        let limit = RateLimit { per_minute: Some(3), per_hour: None, burst: None };
        let admitted = || matches!(take(&names, key, &limit, NOW), Some(LimitDecision::Admitted { .. }));
        assert_eq!([(); 5].map(|()| admitted()), [true, true, true, false, false]);
        assert_eq!(report(&names, key, &limit, NOW).remaining, 0);
        assert_eq!(report(&names, Uuid::from_u128(6), &limit, NOW).remaining, 3, "another key has its own");
    }
}
