//! The leader's reports of crashed VMs: the records that they had not delivered become a gap in the log.

use std::time::Duration;

use omniflow_policy::audit::{
    AuditBatch, AuditItem, AuditSource, DeliveryReport, ReportedGap, ReportedGapCause,
};
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH, Incarnation};
use omniflow_policy::time::MonotonicNanos;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::control_plane::{self, CallToken, Response};
use crate::metrics::Metrics;
use crate::workers::member_table::DepartedMember;
use crate::workers::membership::Membership;

const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Reports crashed VMs, one at a time.
pub(crate) struct CrashReporter {
    in_flight: Option<CrashReport>,
    not_before: MonotonicNanos,
    backoff: Backoff,
}

struct CrashReport {
    call: CallToken,
    vm: Incarnation,
    calls: u64,
}

impl CrashReporter {
    pub(crate) fn new() -> Self {
        Self { in_flight: None, not_before: MonotonicNanos(0), backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE) }
    }

    /// Reports the next crashed VM, if there is one. For the leader only.
    pub(crate) fn tick(
        &mut self,
        config: &Config,
        leader: &AuditSource,
        membership: &Membership,
        now: MonotonicNanos,
    ) {
        if self.in_flight.is_some() || now < self.not_before {
            return;
        }
        let Some(crashed) = membership.next_crashed(now) else { return };
        let batch = encode_report(leader, crashed, membership.progress_report(now, false));
        match control_plane::post(config, AUDIT_PATH, AUDIT_MEDIA_TYPE, &batch, TIMEOUT) {
            Ok(call) => {
                let calls = crashed.progress.waiting();
                self.in_flight = Some(CrashReport { call, vm: crashed.id, calls });
            }
            Err(_) => self.not_before = now.after(self.backoff.pause()),
        }
    }

    /// Handles the response to a call. Returns `false` if the call was not a crash report.
    pub(crate) fn on_response(
        &mut self,
        call: CallToken,
        response: Option<&Response>,
        membership: &Membership,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        let Some(report) = self.in_flight.take_if(|report| report.call == call) else {
            return false;
        };
        match response {
            // A report that was rejected as unreadable would be rejected again.
            Some(response) if response.status == 204 || response.rejects_batch() => {
                metrics.add_audit_lost(report.calls);
                membership.remove_crashed(report.vm);
                self.backoff.reset();
            }
            _ => self.not_before = now.after(self.backoff.pause()),
        }
        true
    }
}

/// A batch on behalf of the crashed VM. The control plane subtracts the calls whose records it has.
fn encode_report(leader: &AuditSource, crashed: &DepartedMember, progress: DeliveryReport) -> Vec<u8> {
    let source = AuditSource { vm: crashed.id, ..leader.clone() };
    let lost = ReportedGap {
        sequence: crashed.progress.acknowledged,
        calls: crashed.progress.waiting(),
        cause: ReportedGapCause::VmLost,
        from: None,
        to: crashed.progress.at,
    };
    AuditBatch { source, delivery: Some(progress), items: vec![AuditItem::Gap(lost)] }.encode()
}
