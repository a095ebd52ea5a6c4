//! The lease that makes one VM the leader: it polls the control plane and writes the snapshot for all.

use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::MonotonicNanos;
use serde::{Deserialize, Serialize};

use super::shared_data::{self, Names};

/// How long a lease lasts without renewal, in nanoseconds.
const DURATION: u64 = 1_000_000_000;

#[derive(Serialize, Deserialize)]
struct Lease {
    holder: Incarnation,
    until: u64,
}

/// Acquires or renews the lease. Returns whether `vm` holds it.
pub(crate) fn acquire(names: &Names, vm: Incarnation, now: MonotonicNanos) -> bool {
    let read = shared_data::get_as::<Lease>(&names.lease());
    let is_free = read.value.as_ref().is_none_or(|lease| lease.holder == vm || lease.until <= now.0);
    let lease = Lease { holder: vm, until: now.0.saturating_add(DURATION) };
    is_free && shared_data::swap_as(&names.lease(), &read, &lease).is_ok()
}

/// The VM that holds the lease, or held it last.
pub(crate) fn holder(names: &Names) -> Option<Incarnation> {
    shared_data::get_as::<Lease>(&names.lease()).value.map(|lease| lease.holder)
}
