//! Gateways: when each was last seen, and how much of its log has arrived.

use std::collections::HashMap;

use async_trait::async_trait;
use omniflow_domain::audit::GapCause;
use omniflow_domain::gateway::{GatewayId, Sighting};
use omniflow_policy::audit::{DeliveryReport, VmDelivery};
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::ingest::{MAX_MISSING, Missing};

/// A run of a gateway's process that may still have undelivered records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenGateway {
    /// The run.
    pub id: GatewayId,
    /// When its last report arrived.
    pub heard_at: UnixMillis,
}

/// The last progress report of a run of a gateway's process. Backends store it; it is interpreted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastReport {
    /// The number of the report: of two reports, the later one has the higher number.
    pub clock: u64,
    /// When it was made, by the gateway's clock.
    pub time: UnixMillis,
    /// When it arrived, by the control plane's clock.
    pub heard_at: UnixMillis,
    /// Whether the gateway has no undelivered call.
    pub is_quiescent: bool,
    /// Its VMs.
    pub vms: Vec<KnownVm>,
    /// The gap for its undelivered calls, if it counts as lost.
    pub gap: Option<i64>,
}

/// The stored state of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownVm {
    /// The VM.
    pub id: Incarnation,
    /// Calls that it had begun.
    pub begun: u64,
    /// The last report in which it had no undelivered call.
    pub clear_at: Option<UnixMillis>,
}

/// The delivery state of a VM's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// The next sequence number.
    pub next_sequence: u64,
    /// When the first call of its last batch began.
    pub since: Option<UnixMillis>,
}

/// Reads gateways.
#[async_trait]
pub trait GatewayStore {
    /// Returns up to `limit` gateways seen at or after `since`, most recently seen first.
    async fn sightings(&self, since: UnixMillis, limit: usize) -> Result<Vec<Sighting>>;

    /// Returns up to `limit` gateways that may have undelivered records and do not count as lost, longest silent first.
    async fn open_gateways(&self, limit: usize) -> Result<Vec<OpenGateway>>;

    /// Counts runs of gateways whose last progress report is stored.
    async fn gateway_reports(&self) -> Result<u64>;

    /// Runs of gateways whose last call began before `before`.
    async fn quiet_streams(&self, before: UnixMillis) -> Result<Vec<GatewayId>>;

    /// Removes the delivery state of these runs, unless a call began at or after `before`.
    async fn forget_streams(&self, runs: &[GatewayId], before: UnixMillis) -> Result<()>;
}

/// Writes when gateways were seen.
#[async_trait]
pub trait GatewayWrites {
    /// Records when gateways were seen. The first sighting of a gateway stays, everything else is replaced.
    async fn note_sightings(&mut self, sightings: &[Sighting]) -> Result<()>;

    /// Removes these gateways.
    async fn remove_sightings(&mut self, ids: &[GatewayId]) -> Result<()>;

    /// Removes gateways last seen before `since`, and all except the `most` most recently seen ones.
    async fn prune_sightings(&mut self, since: UnixMillis, most: usize) -> Result<()>;
}

/// Writes the delivery state of gateways.
#[async_trait]
pub trait GatewayLogWrites {
    /// Marks a gateway that has sent nothing since as lost, and stores a gap for its undelivered calls. `ended_at` is
    /// the latest possible end of its process. Returns the number of calls known to be missing; `None` if the gateway
    /// has reported since, or already counts as lost.
    async fn lose_gateway(&mut self, lost: &OpenGateway, ended_at: UnixMillis) -> Result<Option<u64>>;
}

// === impl LastReport ===

impl LastReport {
    /// A new report, combined with the known facts about its VMs from an earlier one.
    pub fn new(progress: &DeliveryReport, heard_at: UnixMillis, before: Option<&Self>) -> Self {
        let known: HashMap<Incarnation, &KnownVm> =
            before.into_iter().flat_map(|before| &before.vms).map(|vm| (vm.id, vm)).collect();
        Self {
            clock: progress.clock,
            time: progress.at,
            heard_at,
            is_quiescent: progress.quiescent,
            vms: progress.vms.iter().map(|vm| KnownVm::new(vm, known.get(&vm.id).copied())).collect(),
            gap: None,
        }
    }

    /// The report to store when one arrives: the new report, or the earlier one if that has a higher number. A gateway
    /// that reports does not count as lost.
    pub fn after(before: Option<Self>, progress: &DeliveryReport, heard_at: UnixMillis) -> Self {
        match before {
            Some(before) if before.clock > progress.clock => Self { heard_at, gap: None, ..before },
            before => Self::new(progress, heard_at, before.as_ref()),
        }
    }

    /// The gap for this gateway if it is lost: the calls that had begun by this report and have not arrived.
    /// Calls that began later are unknown. `None` unless the gateway is still in the state of `lost`.
    pub fn loss(
        &self,
        lost: &OpenGateway,
        ended_at: UnixMillis,
        streams: &HashMap<Incarnation, StreamEnd>,
    ) -> Option<Missing> {
        if self.heard_at != lost.heard_at || self.is_quiescent || self.gap.is_some() {
            return None;
        }
        let mut missing = self.missing(streams);
        // By the gateway's clock, like all other times of its calls.
        missing.to = UnixMillis(self.time.0.saturating_add(ended_at.0.saturating_sub(lost.heard_at.0)));
        missing.from = missing.from.map(|from| from.min(missing.to));
        Some(missing)
    }

    fn missing(&self, streams: &HashMap<Incarnation, StreamEnd>) -> Missing {
        let calls = self.vms.iter().fold(0, |sum: u64, vm| {
            let arrived = streams.get(&vm.id).map_or(0, |end| end.next_sequence);
            sum.saturating_add(vm.begun.saturating_sub(arrived))
        });
        // Missing calls of a VM began after it last had no undelivered call, and after the first call of its last
        // batch, unless one took longer than all those that arrived with it.
        let since = |vm: &KnownVm| vm.clear_at.max(streams.get(&vm.id).and_then(|end| end.since));
        // `None` sorts first: the start is unknown.
        let from = self.vms.iter().map(since).min().flatten();
        Missing {
            calls: calls.min(MAX_MISSING),
            cause: GapCause::GatewayLost,
            from,
            to: self.time,
            is_least: true,
        }
    }
}

// === impl KnownVm ===

impl KnownVm {
    fn new(reported: &VmDelivery, before: Option<&Self>) -> Self {
        let clear_at =
            if reported.is_drained() { Some(reported.at) } else { before.and_then(|vm| vm.clear_at) };
        Self { id: reported.id, begun: reported.begun.max(before.map_or(0, |vm| vm.begun)), clear_at }
    }
}
