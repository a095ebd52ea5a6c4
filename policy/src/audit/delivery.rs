//! The delivery report of a gateway: how many calls each of its VMs has begun, and how many of their records
//! the control plane has acknowledged.
//!
//! The filter sends a report with every batch, and alone if there is no batch to send. If the whole process
//! of a gateway is gone, the control plane derives the gap from its last report.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::gateway::{Incarnation, MAX_VMS};
use crate::time::UnixMillis;

/// Maximum number of VMs in one report: those that run, and those that have ended and still have undelivered
/// calls.
pub const MAX_REPORTED_VMS: usize = 2 * MAX_VMS + 256;

/// The delivery state of all VMs in one run of a gateway's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// Orders the reports of one run of the process: milliseconds of a clock that is monotonic within the
    /// run.
    pub clock: u64,
    /// The gateway's wall clock.
    pub at: UnixMillis,
    /// Whether every call that has begun is acknowledged, and none has begun for a moment.
    pub quiescent: bool,
    /// The VMs that have undelivered calls, or may have. A VM that is no longer listed has ended and had
    /// none.
    pub vms: Vec<VmDelivery>,
}

/// The delivery state of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmDelivery {
    /// Identifies this run of the VM.
    pub id: Incarnation,
    /// Number of calls that have begun.
    pub begun: u64,
    /// Number of calls whose records were acknowledged.
    pub acknowledged: u64,
    /// Time of these numbers, by the gateway's wall clock.
    pub at: UnixMillis,
}

// === impl DeliveryReport ===

impl DeliveryReport {
    /// Whether the number of VMs is within what a filter sends.
    pub(super) fn is_in_bounds(&self) -> bool {
        self.vms.len() <= MAX_REPORTED_VMS
    }

    /// Clamps every time to `latest`.
    pub fn clamp_times(&mut self, latest: UnixMillis) {
        self.at = self.at.min(latest);
        for vm in &mut self.vms {
            vm.at = vm.at.min(latest);
        }
    }
}

// === impl VmDelivery ===

impl VmDelivery {
    /// Whether every call that has begun is acknowledged.
    pub const fn is_drained(&self) -> bool {
        self.begun <= self.acknowledged
    }
}
