//! Handovers: the records of a VM that shuts down in an orderly way, along with an old configuration or an old filter.
//!
//! Envoy may free the memory of such a VM as soon as its root context is done, whatever `on_done` returned, so the VM
//! cannot deliver its records itself. It puts them into a queue that outlives it, and the leader delivers them on its
//! behalf. Only the very last VM tries to deliver them itself.

use omniflow_policy::audit::AuditSource;
use omniflow_policy::time::MonotonicNanos;

use super::buffer::AuditBuffer;
use super::undelivered::Handover;
use crate::config::Config;
use crate::control_plane::{CallToken, Response};
use crate::metrics::Metrics;
use crate::workers::membership::Membership;

/// Delivers the handovers of other VMs, one after the other.
#[derive(Default)]
pub(crate) struct HandoverDelivery {
    current: Option<Delivery>,
}

struct Delivery {
    source: AuditSource,
    buffer: AuditBuffer,
}

impl HandoverDelivery {
    /// Takes the next handover from the queue if none is being delivered. Returns whether one is now.
    pub(crate) fn take_next(&mut self, config: &Config, membership: &Membership) -> bool {
        if self.current.is_none() {
            self.current = membership.take_handover().map(|handover| Delivery {
                source: handover.source,
                buffer: AuditBuffer::from_undelivered(handover.records, config),
            });
        }
        self.current.is_some()
    }

    /// Continues the current delivery and keeps its VM from being reported as crashed. Use it only in callbacks of the
    /// root context.
    pub(crate) fn deliver(
        &mut self,
        config: &Config,
        membership: &Membership,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) {
        let Some(Delivery { source, buffer }) = &mut self.current else { return };
        buffer.flush(config, source, membership, now, metrics);
        membership.record_delivery(source.vm, buffer.acknowledged(), now);
        if buffer.is_empty() {
            self.current = None;
        }
    }

    /// Handles the response to a call. Returns `false` if the call delivered no handover.
    pub(crate) fn on_response(
        &mut self,
        call: CallToken,
        response: Option<&Response>,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        self.current
            .as_mut()
            .is_some_and(|delivery| delivery.buffer.on_response(call, response, now, metrics))
    }

    /// Returns the rest of the current handover, at the end of this VM.
    pub(crate) fn abort(&mut self, now: MonotonicNanos, metrics: &Metrics) -> Option<Handover> {
        let Delivery { source, mut buffer } = self.current.take()?;
        Some(Handover { source, records: buffer.take_undelivered(now, metrics) })
    }
}
