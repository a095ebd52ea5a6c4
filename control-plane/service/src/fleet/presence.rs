//! Whether a run of a gateway may still be serving requests.
//!
//! Only the end of a connection distinguishes a process that has ended from one that is cut off: a process that ends
//! closes the connection of its waiting poll, whereas a lost network does not. So a run counts until it has ended or a
//! newer run has replaced it, or for a day.

use std::collections::BTreeMap;
use std::time::Duration;

use omniflow_domain::gateway::{GatewayId, GatewayState};
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;

use super::{FORGOTTEN_AFTER, Fleet, Gateway, REPLACED_AFTER, since};

/// The runs of all gateways.
pub(super) type Runs = BTreeMap<GatewayId, Gateway>;

// === impl Fleet ===

impl Fleet {
    /// The state of a run with regard to `version`, or `None` if it does not count because it was removed or a newer
    /// run has replaced it.
    pub(super) fn state(
        &self,
        runs: &Runs,
        (id, run): (&GatewayId, &Gateway),
        now: UnixMillis,
        enforced: bool,
    ) -> Option<GatewayState> {
        if !run.is_remembered(now) || self.is_replaced(runs, id, run, now) {
            return None;
        }
        let is_live = run.is_live(now, self.lease);
        Some(if run.has_ended() && !is_live {
            GatewayState::Ended
        } else if let Some(rejected) = run.rejected_state(now) {
            rejected
        } else if !is_live {
            GatewayState::Silent
        } else if run.is_ahead {
            GatewayState::Ahead
        } else if enforced {
            GatewayState::InStep
        } else {
            GatewayState::Behind
        })
    }

    /// Whether a newer run of the same name replaces this one: immediately if the connection of this one has ended, and
    /// otherwise once it has been silent for a lease and the newer one appeared after it.
    pub(super) fn is_replaced(&self, runs: &Runs, id: &GatewayId, run: &Gateway, now: UnixMillis) -> bool {
        if run.is_connected() {
            return false;
        }
        let others = || runs_named(runs, &id.gateway).filter(|(other, _)| *other != id);
        let may_replace = |newer: &Gateway| newer.may_stand_for(run, now);
        if run.hung_up_at.is_some() {
            return others().any(|(_, newer)| newer.first_seen_at > run.first_seen_at && may_replace(newer));
        }
        let patience = if run.rejected_state(now).is_some() { REPLACED_AFTER } else { self.lease };
        if since(run.arrived_at, now) <= patience || run.is_live(now, self.lease.min(patience)) {
            return false;
        }
        // Two that existed at the same time are replicas. It is unknown which of them the newer run replaces.
        let has_replica = others().any(|(_, other)| {
            other.first_seen_at <= run.arrived_at && other.last_seen_at >= run.first_seen_at
        });
        !has_replica && others().any(|(_, newer)| newer.first_seen_at >= run.arrived_at && may_replace(newer))
    }
}

/// The runs of one gateway.
pub(super) fn runs_named<'r>(
    runs: &'r Runs,
    name: &'r str,
) -> impl Iterator<Item = (&'r GatewayId, &'r Gateway)> {
    let first = GatewayId { gateway: name.to_owned(), incarnation: Incarnation(0) };
    runs.range(first..).take_while(move |(id, _)| id.gateway == name)
}

// === impl Gateway ===

impl Gateway {
    /// Whether it is connected, or was seen within the lease. After a restart of the control plane, a gateway that may
    /// have been live has one lease to reconnect.
    pub(super) fn is_live(&self, now: UnixMillis, lease: Duration) -> bool {
        let heard_or_expected = self.expected_since.map_or(self.last_seen_at, |at| at.max(self.last_seen_at));
        self.is_connected() || since(heard_or_expected, now) <= lease
    }

    /// Whether it was seen recently enough to be still reported.
    pub(super) fn is_remembered(&self, now: UnixMillis) -> bool {
        self.is_connected() || since(self.last_seen_at, now) <= FORGOTTEN_AFTER
    }

    /// Whether its connection ended when it had no audit records left to send, as after a drain.
    pub(super) fn has_ended(&self) -> bool {
        !self.is_connected() && self.hung_up_at.is_some() && !self.is_busy
    }
}
