//! The leader's word of whether the control plane has all records of this Envoy: once when it has, and once when that is
//! over. So a process that is gone without a word is known to have taken calls along, and one that was at rest is not.
//!
//! A batch says the same by being there. The word goes alone only at the turns between work and rest.

use std::time::Duration;

use omniflow_policy::audit::{AuditBatch, AuditSource};
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH};
use omniflow_policy::time::MonotonicNanos;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::control_plane::{self, Answer, CallId};
use crate::peers::Peers;

/// For so long nothing may have begun before that counts as rest. Calls that come one by one make no stream of words.
const REST: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the control plane knows, as far as this leader does.
pub(crate) struct Settlement {
    /// The calls that were begun by the last tick, and since when it is so many.
    begun: u64,
    since: MonotonicNanos,
    /// Whether the control plane was told last that all is settled. A new leader does not know.
    told: Option<bool>,
    under_way: Option<(CallId, bool)>,
    not_before: MonotonicNanos,
    backoff: Backoff,
}

impl Settlement {
    pub(crate) fn new(now: MonotonicNanos) -> Self {
        Self {
            begun: 0,
            since: now,
            told: None,
            under_way: None,
            not_before: MonotonicNanos(0),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// Tells the control plane where it does not know. Only for the VM that leads, after it has read the list of VMs.
    pub(crate) fn tick(&mut self, config: &Config, source: &AuditSource, peers: &Peers, now: MonotonicNanos) {
        let is_settled = self.look(peers, now);
        let is_known = match self.told {
            Some(told) => told == is_settled,
            // Whatever was told before: nothing has begun that it would have to hear of.
            None => !is_settled && peers.waiting() == 0,
        };
        if is_known || self.under_way.is_some() || now < self.not_before {
            return;
        }
        let word = AuditBatch::join(source, Some(&peers.word(now, is_settled)), []);
        match control_plane::post(config, AUDIT_PATH, AUDIT_MEDIA_TYPE, &word, TIMEOUT) {
            Ok(call) => self.under_way = Some((call, is_settled)),
            Err(_) => self.not_before = now.after(self.backoff.pause()),
        }
    }

    /// Whether all is settled now.
    fn look(&mut self, peers: &Peers, now: MonotonicNanos) -> bool {
        let begun = peers.begun();
        if begun != self.begun {
            (self.begun, self.since) = (begun, now);
        }
        peers.waiting() == 0 && peers.all_are_fresh(now) && now.since(self.since) >= REST
    }

    /// A call was answered. `false` if it was no word.
    pub(crate) fn answered(&mut self, id: CallId, answer: Option<&Answer>, now: MonotonicNanos) -> bool {
        let Some((_, is_settled)) = self.under_way.take_if(|(call, _)| *call == id) else {
            return false;
        };
        match answer {
            // A control plane that does not know such words knows of no loss either; batches tell of that.
            Some(answer) if answer.status == 204 || answer.refuses_batch() => {
                self.told = Some(is_settled);
                self.backoff.reset();
            }
            _ => self.not_before = now.after(self.backoff.pause()),
        }
        true
    }

    /// Whether the control plane knows that all is settled.
    pub(crate) fn is_told(&self) -> bool {
        self.told == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::time::UnixMillis;

    use super::*;
    use crate::peers::Progress;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn it_is_settled_when_all_is_acknowledged_and_nothing_has_begun_for_a_while() {
        let mut settlement = Settlement::new(MonotonicNanos(SECOND));
        let mut peers = Peers::alone("settlement", 1);
        let mut at = |now: u64, begun, acknowledged| {
            let now = MonotonicNanos(now);
            peers.beat(now, 1, Progress { begun, acknowledged, at: UnixMillis(5) });
            settlement.look(&peers, now)
        };
        assert!(!at(SECOND, 0, 0), "just started");
        assert!(at(2 * SECOND, 0, 0));
        assert!(!at(2 * SECOND + 1, 1, 0));
        assert!(!at(4 * SECOND, 1, 0), "not acknowledged");
        assert!(at(4 * SECOND, 1, 1), "it has begun long ago");
        assert!(!at(4 * SECOND, 2, 2), "it has begun just now");
        assert!(at(5 * SECOND, 2, 2));
    }

    #[test]
    fn it_is_not_settled_while_another_vm_is_held_up() {
        let mut settlement = Settlement::new(MonotonicNanos(0));
        let quiet = Progress { begun: 0, acknowledged: 0, at: UnixMillis(5) };
        let (mut one, mut other) = (Peers::alone("held-up", 1), Peers::alone("held-up", 2));
        other.beat(MonotonicNanos(SECOND), 1, quiet);
        let mut at = |now: u64| {
            one.beat(MonotonicNanos(now), 1, quiet);
            settlement.look(&one, MonotonicNanos(now))
        };
        assert!(at(SECOND + SECOND / 4));
        assert!(!at(2 * SECOND), "nobody knows what the other has begun");
    }
}
