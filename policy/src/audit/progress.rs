//! How far a gateway has come with its records. Its word travels with every batch, and alone where there is no batch to
//! go with: so the control plane knows what can have been lost when the whole process of a gateway is gone.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::gateway::{Incarnation, MAX_VMS};
use crate::time::UnixMillis;

/// The most VMs of a word: those of the present, and those that have ended and still hold calls.
pub const MAX_PROGRESS_VMS: usize = 2 * MAX_VMS + 256;

/// What one run of a gateway's process knows of all its VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayProgress {
    /// Orders the words of one run of the process: milliseconds of a clock that never steps back while it lasts.
    pub clock: u64,
    /// The gateway's wall clock.
    pub at: UnixMillis,
    /// Whether nothing was begun that is not acknowledged, and nothing at all for a moment.
    pub settled: bool,
    /// The VMs that hold calls, or may. One that is no longer named has ended and held none.
    pub vms: Vec<VmProgress>,
}

/// How far one VM has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmProgress {
    /// This run of the VM.
    pub id: Incarnation,
    /// Calls that it has begun.
    pub begun: u64,
    /// Calls whose records were acknowledged.
    pub acknowledged: u64,
    /// When this was so, by the gateway's wall clock.
    pub at: UnixMillis,
}

// === impl GatewayProgress ===

impl GatewayProgress {
    /// Whether there are no more VMs than a filter names.
    pub(super) fn is_in_bounds(&self) -> bool {
        self.vms.len() <= MAX_PROGRESS_VMS
    }

    /// Moves no time behind `latest`.
    pub fn clamp_times(&mut self, latest: UnixMillis) {
        self.at = self.at.min(latest);
        for vm in &mut self.vms {
            vm.at = vm.at.min(latest);
        }
    }
}

// === impl VmProgress ===

impl VmProgress {
    /// Whether it held no call.
    pub const fn is_clear(&self) -> bool {
        self.begun <= self.acknowledged
    }
}
