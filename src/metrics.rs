//! Metrics in Envoy's statistics, `wasmcustom.omniflow_…`. Each VM defines them once; Envoy adds up all VMs.

use omniflow_policy::denial::Outcome;

use crate::host::{self, MetricType};

/// Prefix of the names of the decision counters; the reason follows.
const DECISIONS: &str = "omniflow_decisions_";

/// The identifiers of the metrics.
pub(crate) struct Metrics {
    decisions: Vec<(Outcome, Option<u32>)>,
    audit_lost: Option<u32>,
    audit_waiting: Option<u32>,
    audit_not_quiescent: Option<u32>,
    payloads_dropped: Option<u32>,
    snapshots_rejected: Option<u32>,
    calls_terminated: Option<u32>,
    forwarded_unparsed: Option<u32>,
    shared_data_rejected: Option<u32>,
    snapshot_version: Option<u32>,
}

impl Metrics {
    pub(crate) fn define() -> Self {
        Self::define_with(&host::define_metric)
    }

    /// Changes need a row in `docs/reference/metrics.md`.
    fn define_with(define: &dyn Fn(MetricType, &str) -> Option<u32>) -> Self {
        let counter = |name: &str| define(MetricType::Counter, name);
        let gauge = |name: &str| define(MetricType::Gauge, name);
        Self {
            decisions: Outcome::all()
                .map(|outcome| (outcome, counter(&format!("{DECISIONS}{}", outcome.reason()))))
                .collect(),
            audit_lost: counter("omniflow_audit_records_lost"),
            payloads_dropped: counter("omniflow_audit_payloads_dropped"),
            snapshots_rejected: counter("omniflow_snapshots_rejected"),
            calls_terminated: counter("omniflow_calls_terminated"),
            forwarded_unparsed: counter("omniflow_forwarded_addresses_unparsed"),
            shared_data_rejected: counter("omniflow_shared_data_rejected"),
            audit_waiting: gauge("omniflow_audit_records_waiting"),
            audit_not_quiescent: gauge("omniflow_audit_not_quiescent"),
            snapshot_version: gauge("omniflow_snapshot_version"),
        }
    }

    /// Counts a decision.
    pub(crate) fn add_decision(&self, outcome: Outcome) {
        let id = self.decisions.iter().find(|(known, _)| *known == outcome).and_then(|(_, id)| *id);
        increment(id, 1);
    }

    /// Counts audit records that never reach the control plane.
    pub(crate) fn add_audit_lost(&self, records: u64) {
        increment(self.audit_lost, records);
    }

    /// Counts a call whose payload did not fit.
    pub(crate) fn add_payload_dropped(&self) {
        increment(self.payloads_dropped, 1);
    }

    /// Counts calls that were ended because their key was no longer valid.
    pub(crate) fn add_calls_terminated(&self, calls: u64) {
        increment(self.calls_terminated, calls);
    }

    /// Counts a request whose `X-Forwarded-For` has an address that Envoy cannot parse.
    pub(crate) fn add_forwarded_unparsed(&self) {
        increment(self.forwarded_unparsed, 1);
    }

    /// Counts a snapshot or delta that was rejected.
    pub(crate) fn add_snapshot_rejected(&self) {
        increment(self.snapshots_rejected, 1);
    }

    /// Counts entries of shared data that this filter has not written, or that are earlier ones.
    pub(crate) fn add_shared_data_rejected(&self, entries: u64) {
        increment(self.shared_data_rejected, entries);
    }

    /// Sets the number of calls without an acknowledged record, over all VMs.
    pub(crate) fn set_audit_waiting(&self, calls: u64) {
        set(self.audit_waiting, calls);
    }

    /// Sets whether the control plane has acknowledged that this Envoy is quiescent.
    pub(crate) fn set_quiescent(&self, is_quiescent: bool) {
        set(self.audit_not_quiescent, (!is_quiescent).into());
    }

    /// Sets the snapshot version in shared data.
    pub(crate) fn set_snapshot_version(&self, version: u64) {
        set(self.snapshot_version, version);
    }
}

fn set(id: Option<u32>, value: u64) {
    if let Some(id) = id {
        host::record_metric(id, value);
    }
}

fn increment(id: Option<u32>, by: u64) {
    if let (Some(id), Ok(by @ 1..)) = (id, i64::try_from(by)) {
        host::increment_metric(id, by);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reference_lists_every_metric_with_its_type() {
        let defined = RefCell::new(BTreeSet::new());
        Metrics::define_with(&|kind, name| {
            let kind = if matches!(kind, MetricType::Counter) { "counter" } else { "gauge" };
            let name = if name.starts_with(DECISIONS) { "omniflow_decisions_REASON" } else { name };
            defined.borrow_mut().insert(format!("`{name}` | {kind}"));
            None
        });
        let text = include_str!("../docs/reference/metrics.md");
        let rows = text.lines().filter(|line| line.starts_with("| `omniflow_"));
        let documented: BTreeSet<String> =
            rows.filter_map(|row| Some(row.strip_prefix("| ")?.rsplit_once(" | ")?.0.to_owned())).collect();
        assert_eq!(documented, defined.into_inner());
    }
}
