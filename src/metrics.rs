//! Envoy metrics, defined once a VM and counted over all VMs: `wasmcustom.omniflow_…` in Envoy's statistics.

use omniflow_policy::outcome::Outcome;

use crate::abi::{self, MetricType};

/// The metrics' numbers.
pub(crate) struct Metrics {
    decisions: Vec<(Outcome, Option<u32>)>,
    audit_lost: Option<u32>,
    audit_waiting: Option<u32>,
    audit_unsettled: Option<u32>,
    payloads_dropped: Option<u32>,
    snapshot_refused: Option<u32>,
    snapshot_version: Option<u32>,
}

impl Metrics {
    pub(crate) fn define() -> Self {
        let counter = |name: &str| abi::define_metric(MetricType::Counter, name);
        let gauge = |name: &str| abi::define_metric(MetricType::Gauge, name);
        Self {
            decisions: Outcome::all()
                .map(|outcome| (outcome, counter(&format!("omniflow_decisions_{}", outcome.reason()))))
                .collect(),
            audit_lost: counter("omniflow_audit_records_lost"),
            payloads_dropped: counter("omniflow_audit_payloads_dropped"),
            snapshot_refused: counter("omniflow_snapshots_refused"),
            audit_waiting: gauge("omniflow_audit_records_waiting"),
            audit_unsettled: gauge("omniflow_audit_unsettled"),
            snapshot_version: gauge("omniflow_snapshot_version"),
        }
    }

    /// Counts a decision.
    pub(crate) fn decided(&self, outcome: Outcome) {
        let id = self.decisions.iter().find(|(known, _)| *known == outcome).and_then(|(_, id)| *id);
        increment(id, 1);
    }

    /// Counts audit records that never reach the control plane.
    pub(crate) fn audit_lost(&self, records: u64) {
        increment(self.audit_lost, records);
    }

    /// Counts a call whose arguments had no room beside its record.
    pub(crate) fn payload_dropped(&self) {
        increment(self.payloads_dropped, 1);
    }

    /// Counts a snapshot or delta that was refused.
    pub(crate) fn snapshot_refused(&self) {
        increment(self.snapshot_refused, 1);
    }

    /// Tells how many calls have no acknowledged record yet, over all VMs.
    pub(crate) fn audit_waiting(&self, calls: u64) {
        set(self.audit_waiting, calls);
    }

    /// Tells whether the control plane has yet to hear that all records have come.
    pub(crate) fn audit_unsettled(&self, is_unsettled: bool) {
        set(self.audit_unsettled, is_unsettled.into());
    }

    /// Tells the version in shared data.
    pub(crate) fn snapshot_version(&self, version: u64) {
        set(self.snapshot_version, version);
    }
}

fn set(id: Option<u32>, value: u64) {
    if let Some(id) = id {
        abi::record_metric(id, value);
    }
}

fn increment(id: Option<u32>, by: u64) {
    if let (Some(id), Ok(by @ 1..)) = (id, i64::try_from(by)) {
        abi::increment_metric(id, by);
    }
}
