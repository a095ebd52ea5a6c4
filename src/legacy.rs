//! What a VM leaves to the others when it ends in an orderly way: with an old configuration or an old filter.
//!
//! Envoy may take the memory of such a VM away as soon as its root context is done, whatever that answers, so it cannot
//! deliver its records itself. It puts them into a queue, which outlives it, and the VM that leads delivers them in its
//! name. Only the last VM of all tries to do so itself.

use omniflow_policy::audit::AuditSource;
use omniflow_policy::time::MonotonicNanos;
use serde::{Deserialize, Serialize};

use crate::audit::{AuditBuffer, Undelivered};
use crate::config::Config;
use crate::control_plane::{Answer, CallId};
use crate::metrics::Metrics;
use crate::peers::Peers;

/// The records of a VM that has ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Legacy {
    pub(crate) source: AuditSource,
    pub(crate) records: Undelivered,
}

/// Delivers what others have left, one after the other.
#[derive(Default)]
pub(crate) struct Legacies {
    in_hand: Option<InHand>,
}

struct InHand {
    source: AuditSource,
    buffer: AuditBuffer,
}

impl Legacies {
    /// Takes the next one from the queue if none is in hand. Tells whether one is in hand now.
    pub(crate) fn inherit(&mut self, config: &Config, peers: &Peers) -> bool {
        if self.in_hand.is_none() {
            self.in_hand = peers.inherit().map(|legacy| InHand {
                source: legacy.source,
                buffer: AuditBuffer::of(legacy.records, config),
            });
        }
        self.in_hand.is_some()
    }

    /// Goes on with the one in hand, and keeps it from being reported as lost. Only in callbacks of the root context.
    pub(crate) fn deliver(&mut self, config: &Config, peers: &Peers, now: MonotonicNanos, metrics: &Metrics) {
        let Some(InHand { source, buffer }) = &mut self.in_hand else { return };
        buffer.flush(config, source, peers, now, metrics);
        peers.delivered(source.vm, buffer.acknowledged(), now);
        if buffer.is_empty() {
            self.in_hand = None;
        }
    }

    /// A call was answered. `false` if it delivered no legacy.
    pub(crate) fn answered(
        &mut self,
        id: CallId,
        answer: Option<&Answer>,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        self.in_hand.as_mut().is_some_and(|legacy| legacy.buffer.answered(id, answer, now, metrics))
    }

    /// Gives the one in hand back, at the end of this VM.
    pub(crate) fn take(&mut self, now: MonotonicNanos, metrics: &Metrics) -> Option<Legacy> {
        let InHand { source, mut buffer } = self.in_hand.take()?;
        Some(Legacy { source, records: buffer.take_undelivered(now, metrics) })
    }
}
