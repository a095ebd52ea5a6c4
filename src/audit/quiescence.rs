//! The leader's reports of quiescence: one when the control plane has all records of this Envoy, and one when it no
//! longer does. They allow the control plane to distinguish a process that ended with undelivered records from one that
//! ended when quiescent.
//!
//! A batch of records ends quiescence by itself. Separate reports are sent only when the state changes.

use std::time::Duration;

use omniflow_policy::audit::{AuditBatch, AuditSource};
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH};
use omniflow_policy::time::MonotonicNanos;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::control_plane::{self, CallToken, Response};
use crate::workers::membership::Membership;

/// Time without a new call after which Envoy counts as quiescent. It prevents isolated calls from causing a stream of
/// reports.
const IDLE_PERIOD: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The state that this leader has reported to the control plane.
pub(crate) struct QuiescenceReporter {
    /// The number of calls begun at the last tick, and the time since which it has not changed.
    begun: u64,
    since: MonotonicNanos,
    /// The last acknowledged report. `None` in a new leader.
    reported: Option<bool>,
    in_flight: Option<(CallToken, bool)>,
    not_before: MonotonicNanos,
    backoff: Backoff,
}

impl QuiescenceReporter {
    pub(crate) fn new(now: MonotonicNanos) -> Self {
        Self {
            begun: 0,
            since: now,
            reported: None,
            in_flight: None,
            not_before: MonotonicNanos(0),
            backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
        }
    }

    /// Sends a report if the state has changed. For the leader only, after it has read the table of VMs.
    pub(crate) fn tick(
        &mut self,
        config: &Config,
        source: &AuditSource,
        membership: &Membership,
        now: MonotonicNanos,
    ) {
        let is_quiescent = self.check(membership, now);
        let is_reported = match self.reported {
            Some(reported) => reported == is_quiescent,
            // No report is needed, whatever the last leader reported: no call has begun.
            None => !is_quiescent && membership.waiting() == 0,
        };
        if is_reported || self.in_flight.is_some() || now < self.not_before {
            return;
        }
        let report = AuditBatch::join(source, Some(&membership.progress_report(now, is_quiescent)), []);
        match control_plane::post(config, AUDIT_PATH, AUDIT_MEDIA_TYPE, &report, TIMEOUT) {
            Ok(call) => self.in_flight = Some((call, is_quiescent)),
            Err(_) => self.not_before = now.after(self.backoff.pause()),
        }
    }

    /// Whether this Envoy is quiescent now.
    fn check(&mut self, membership: &Membership, now: MonotonicNanos) -> bool {
        let begun = membership.begun();
        if begun != self.begun {
            (self.begun, self.since) = (begun, now);
        }
        membership.waiting() == 0 && membership.all_are_fresh(now) && now.since(self.since) >= IDLE_PERIOD
    }

    /// Handles the response to a call. Returns `false` if the call was not a quiescence report.
    pub(crate) fn on_response(
        &mut self,
        call: CallToken,
        response: Option<&Response>,
        now: MonotonicNanos,
    ) -> bool {
        let Some((_, is_quiescent)) = self.in_flight.take_if(|(token, _)| *token == call) else {
            return false;
        };
        match response {
            // A control plane that rejects these reports does not derive gaps from their absence either.
            Some(response) if response.status == 204 || response.rejects_batch() => {
                self.reported = Some(is_quiescent);
                self.backoff.reset();
            }
            _ => self.not_before = now.after(self.backoff.pause()),
        }
        true
    }

    /// Whether the control plane has acknowledged that this Envoy is quiescent.
    pub(crate) fn is_reported(&self) -> bool {
        self.reported == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::time::UnixMillis;

    use super::*;
    use crate::workers::member_table::CallProgress;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn quiescent_when_all_calls_are_acknowledged_and_none_began_recently() {
        let mut reporter = QuiescenceReporter::new(MonotonicNanos(SECOND));
        let mut membership = Membership::for_test("quiescence", 1);
        let mut at = |now: u64, begun, acknowledged| {
            let now = MonotonicNanos(now);
            membership.heartbeat(now, 1, false, CallProgress { begun, acknowledged, at: UnixMillis(5) });
            reporter.check(&membership, now)
        };
        assert!(!at(SECOND, 0, 0), "just started");
        assert!(at(2 * SECOND, 0, 0));
        assert!(!at(2 * SECOND + 1, 1, 0));
        assert!(!at(4 * SECOND, 1, 0), "not acknowledged");
        assert!(at(4 * SECOND, 1, 1), "it began long ago");
        assert!(!at(4 * SECOND, 2, 2), "it began just now");
        assert!(at(5 * SECOND, 2, 2));
    }

    #[test]
    fn not_quiescent_while_another_vm_is_blocked() {
        let mut reporter = QuiescenceReporter::new(MonotonicNanos(0));
        let quiet = CallProgress { begun: 0, acknowledged: 0, at: UnixMillis(5) };
        let (mut one, mut other) = (Membership::for_test("blocked", 1), Membership::for_test("blocked", 2));
        other.heartbeat(MonotonicNanos(SECOND), 1, false, quiet);
        let mut at = |now: u64| {
            one.heartbeat(MonotonicNanos(now), 1, false, quiet);
            reporter.check(&one, MonotonicNanos(now))
        };
        assert!(at(SECOND + SECOND / 4));
        assert!(!at(2 * SECOND), "the other VM may have begun calls");
    }
}
