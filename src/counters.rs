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
        let decision = limit.take(state(read.value.as_deref()), now);
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
