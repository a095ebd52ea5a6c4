//! The leader's word for VMs that have crashed: what they had not delivered is told to the control plane as lost.

use std::time::Duration;

use omniflow_policy::audit::{
    AuditBatch, AuditItem, AuditSource, DeliveryReport, ReportedGap, ReportedGapCause,
};
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH, Incarnation};
use omniflow_policy::time::MonotonicNanos;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::control_plane::{self, Answer, CallId};
use crate::metrics::Metrics;
use crate::peers::{Gone, Peers};

const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Reports of VMs that are gone, one at a time.
pub(crate) struct LostVms {
    under_way: Option<Report>,
    not_before: MonotonicNanos,
    backoff: Backoff,
}

struct Report {
    call: CallId,
    vm: Incarnation,
    calls: u64,
}

impl LostVms {
    pub(crate) fn new() -> Self {
        Self {
            under_way: None,
            not_before: MonotonicNanos(0),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// Reports a VM that will not come back, if there is one. Only for the VM that leads.
    pub(crate) fn tick(&mut self, config: &Config, leader: &AuditSource, peers: &Peers, now: MonotonicNanos) {
        if self.under_way.is_some() || now < self.not_before {
            return;
        }
        let Some(gone) = peers.lost(now) else { return };
        let batch = batch(leader, gone, peers.word(now, false));
        match control_plane::post(config, AUDIT_PATH, AUDIT_MEDIA_TYPE, &batch, TIMEOUT) {
            Ok(call) => {
                self.under_way = Some(Report { call, vm: gone.id, calls: gone.progress.waiting() });
            }
            Err(_) => self.not_before = now.after(self.backoff.pause()),
        }
    }

    /// A call was answered. `false` if it is no report.
    pub(crate) fn answered(
        &mut self,
        id: CallId,
        answer: Option<&Answer>,
        peers: &Peers,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        let Some(report) = self.under_way.take_if(|report| report.call == id) else {
            return false;
        };
        match answer {
            // What is refused as unreadable would be refused again.
            Some(answer) if answer.status == 204 || answer.refuses_batch() => {
                metrics.audit_lost(report.calls);
                peers.reported(report.vm);
                self.backoff.reset();
            }
            _ => self.not_before = now.after(self.backoff.pause()),
        }
        true
    }
}

/// In the name of the VM: the control plane knows which of the calls have come nevertheless.
fn batch(leader: &AuditSource, gone: &Gone, progress: DeliveryReport) -> Vec<u8> {
    let source = AuditSource { vm: gone.id, ..leader.clone() };
    let lost = ReportedGap {
        sequence: gone.progress.acknowledged,
        calls: gone.progress.waiting(),
        cause: ReportedGapCause::VmLost,
        from: None,
        to: gone.progress.at,
    };
    AuditBatch { source, delivery: Some(progress), items: vec![AuditItem::Gap(lost)] }.encode()
}
