//! The gateways: what each enforces, and how long it took.
//!
//! | module | content |
//! |---|---|
//! | `admission` | which token may act for which run, and how many runs a token has |
//! | `version_bounds` | which versions a gateway can hold |
//! | `requests` | counters of polls and refusals |
//! | `presence` | whether a run may still be serving requests: live, silent, ended, replaced |
//! | `tokens` | the tokens that runs use, and whether they are still valid |
//! | `enforcement`, [`enforcement_watch`], `confirmation` | the enforcement status of a version, and how long it took |
//! | `status` | the gateways, for lists and metrics |
//! | `sightings` | what survives a restart of the control plane |

mod admission;
mod confirmation;
mod enforcement;
pub mod enforcement_watch;
mod presence;
mod requests;
mod sightings;
mod status;
mod tokens;
mod version_bounds;

pub use self::status::GatewayCounts;
pub use self::version_bounds::VersionBounds;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::{EnforcedReport, Incarnation, MAX_VMS, PollRequest, VmStatus};
use omniflow_policy::time::UnixMillis;
use tokio::sync::watch;

use omniflow_domain::clock::Clock;
use omniflow_domain::gateway::{GatewayId, Sighting};

/// A gateway that has not been seen for this long is no longer listed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Maximum number of remembered runs of gateways.
const MAX_GATEWAYS: usize = 10_000;

/// How long a gateway is silent before it counts as replaced by another process of its name: longer than a change of
/// the leader takes, or a poll after a refusal.
const REPLACED_AFTER: Duration = Duration::from_secs(10);

/// How long the workers of a process that was asked to stop may continue after its connection was closed, in
/// milliseconds: its main thread closes the connection first.
const LAST_MOMENT_MS: u64 = 1_000;

/// All gateways seen in the last day.
#[derive(Debug)]
pub struct Fleet {
    gateways: Mutex<BTreeMap<GatewayId, Gateway>>,
    /// Digests of revoked tokens that runs have used.
    revoked: Mutex<HashSet<Digest>>,
    /// Counters of the requests of gateways.
    requests: requests::RequestCounters,
    /// Held while sightings are written or removed, so that a removed run is not written again.
    notes: tokio::sync::Mutex<()>,
    heard: watch::Sender<()>,
    clock: Clock,
    lease: Duration,
    /// When this process began to listen.
    began: UnixMillis,
}

/// The known facts about a gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Version of the filter. Unknown until the gateway polls.
    pub filter_version: Option<String>,
    /// The version of its snapshot, 0 for none.
    pub version: u64,
    /// Whether it reported a version that was never published.
    is_ahead: bool,
    /// The version that each VM enforces, 0 for none.
    pub vms: BTreeMap<Incarnation, u64>,
    /// The highest version that all its VMs have enforced, 0 for none.
    confirmed: u64,
    /// When its first request arrived.
    pub first_seen_at: UnixMillis,
    /// When its latest request arrived, or its latest poll ended.
    pub last_seen_at: UnixMillis,
    /// When its latest request arrived.
    arrived_at: UnixMillis,
    /// The token that it uses. Unknown until it authenticates.
    token: Option<tokens::UsedToken>,
    /// Whether it had undelivered records according to its latest progress report.
    is_busy: bool,
    /// How far its clock was ahead of this one at its last poll, in milliseconds; negative if it was behind. The
    /// transit time of the poll reduces it. Unknown if the filter did not send its clock.
    pub clock_skew_ms: Option<i64>,
    /// Number of polls that are currently waiting for a response.
    pub open_polls: usize,
    /// When its connection ended while a poll was waiting, if it has sent nothing since.
    hung_up_at: Option<UnixMillis>,
    /// Its sighting in the database.
    noted: Option<Sighting>,
    /// When this process started, for a gateway that may have been live when the previous process ended.
    expected_since: Option<UnixMillis>,
}

/// A poll that is waiting for its response. Dropped when the response is sent or the gateway has disconnected.
#[derive(Debug)]
pub struct OpenPoll {
    fleet: Arc<Fleet>,
    id: GatewayId,
    is_answered: bool,
}

// === impl Fleet ===

impl Fleet {
    /// A fleet without gateways. A gateway that is silent for longer than `lease` is not waited for.
    pub fn new(clock: Clock, lease: Duration) -> Self {
        let began = clock.now();
        Self {
            gateways: Mutex::default(),
            revoked: Mutex::default(),
            requests: requests::RequestCounters::default(),
            notes: tokio::sync::Mutex::default(),
            heard: watch::Sender::new(()),
            clock,
            lease,
            began,
        }
    }

    /// Records the start of a poll.
    pub fn poll_began(self: &Arc<Self>, poll: &PollRequest, bounds: VersionBounds) -> OpenPoll {
        let id = GatewayId { gateway: poll.gateway.clone(), incarnation: poll.incarnation };
        let clock_skew_ms = Some(ahead(poll.clock, self.clock.now()));
        self.note(&id, |gateway| {
            gateway.clock_skew_ms = clock_skew_ms;
            gateway.filter_version = Some(poll.filter_version.clone());
            gateway.version = bounds.held(poll.version);
            gateway.is_ahead = bounds.is_ahead(poll.version);
            gateway.open_polls += 1;
            gateway.take_vms(&poll.vms, bounds);
        });
        OpenPoll { fleet: Arc::clone(self), id, is_answered: false }
    }

    /// Records the versions that a gateway's VMs enforce.
    pub fn reported(&self, report: &EnforcedReport, bounds: VersionBounds) {
        let id = GatewayId { gateway: report.gateway.clone(), incarnation: report.incarnation };
        self.note(&id, |gateway| gateway.take_vms(&report.vms, bounds));
    }

    /// All gateways in the order of their identifiers, starting after `after`, without the runs that a newer one has
    /// replaced.
    pub fn list(&self, after: Option<&GatewayId>, limit: usize) -> Vec<(GatewayId, Gateway)> {
        let now = self.clock.now();
        let gateways = self.lock();
        gateways
            .iter()
            .filter(|(_, gateway)| gateway.is_remembered(now))
            .filter(|(id, gateway)| !self.is_replaced(&gateways, id, gateway, now))
            .filter(|(id, _)| after.is_none_or(|after| *id > after))
            .take(limit)
            .map(|(id, gateway)| (id.clone(), gateway.clone()))
            .collect()
    }

    /// Whether a gateway was seen in the last day.
    pub(crate) fn remembers(&self, id: &GatewayId) -> bool {
        self.lock().get(id).is_some_and(|gateway| gateway.is_remembered(self.clock.now()))
    }

    /// The latest time at which a gateway whose last audit records arrived at `heard_at` can have ended; `None` if it
    /// may still be running. It is considered gone if it was silent for a lease, or for a moment while another process
    /// of its name appeared. Two that call at the same time are replicas, or one that hands over to the other.
    pub(crate) fn ended(&self, id: &GatewayId, heard_at: UnixMillis) -> Option<UnixMillis> {
        let now = self.clock.now();
        let gateways = self.lock();
        let known = gateways.get(id);
        if known.is_some_and(Gateway::is_connected) {
            return None;
        }
        let last_seen_at = known.map_or(heard_at, |gateway| gateway.last_seen_at.max(heard_at));
        let silent = since(last_seen_at.max(self.began), now);
        let is_successor = |(other, gateway): (&GatewayId, &Gateway)| {
            other.gateway == id.gateway
                && other != id
                && gateway.is_connected()
                && gateway.first_seen_at >= last_seen_at
        };
        if silent <= self.lease && (silent < REPLACED_AFTER || !gateways.iter().any(is_successor)) {
            return None;
        }
        // If the end of the connection was observed, the gateway ended at about that time. Otherwise, it is unknown how
        // long it continued.
        let hung_up_at =
            known.and_then(|gateway| gateway.hung_up_at).map(|at| UnixMillis(at.0 + LAST_MOMENT_MS));
        Some(hung_up_at.map_or(now, |at| at.min(now)).max(heard_at))
    }

    /// Records that a gateway was seen, and what it reported.
    fn note(&self, id: &GatewayId, said: impl FnOnce(&mut Gateway)) {
        let now = self.clock.now();
        {
            let mut gateways = self.lock();
            let gateway = gateways.entry(id.clone()).or_insert_with(|| Gateway::new(now));
            gateway.arrived(now);
            said(gateway);
        }
        self.heard.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GatewayId, Gateway>> {
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time since `then`; zero if it is in the future.
fn since(then: UnixMillis, now: UnixMillis) -> Duration {
    Duration::from_millis(now.0.saturating_sub(then.0))
}

/// The number of milliseconds by which one instant is later than another; negative if it is earlier.
fn ahead(one: UnixMillis, other: UnixMillis) -> i64 {
    let distance = i64::try_from(one.0.abs_diff(other.0)).unwrap_or(i64::MAX);
    if one >= other { distance } else { -distance }
}

// === impl Gateway ===

impl Gateway {
    fn new(now: UnixMillis) -> Self {
        Self {
            filter_version: None,
            version: 0,
            is_ahead: false,
            vms: BTreeMap::new(),
            confirmed: 0,
            first_seen_at: now,
            last_seen_at: now,
            arrived_at: now,
            token: None,
            is_busy: false,
            clock_skew_ms: None,
            open_polls: 0,
            hung_up_at: None,
            noted: None,
            expected_since: None,
        }
    }

    /// Records that one of its requests has arrived.
    fn arrived(&mut self, now: UnixMillis) {
        self.last_seen_at = now;
        self.arrived_at = now;
        self.hung_up_at = None;
    }

    /// Whether it is currently waiting for a response.
    pub(crate) fn is_connected(&self) -> bool {
        self.open_polls > 0
    }

    /// Adopts its report about its VMs. Polls and reports list all of them; a VM that is not listed has ended. A report
    /// may arrive out of order, so known higher versions are kept.
    fn take_vms(&mut self, vms: &[VmStatus], bounds: VersionBounds) {
        let before = std::mem::take(&mut self.vms);
        for vm in vms.iter().take(MAX_VMS) {
            let known = before.get(&vm.id).copied().unwrap_or_default();
            self.vms.insert(vm.id, bounds.enforced(vm, known));
        }
    }

    /// Whether all its VMs enforce `version` or a later one. False for a gateway that has reported no VMs.
    pub(crate) fn enforces(&self, version: u64, published: u64) -> bool {
        !self.vms.is_empty() && self.enforcing(version, published) == self.vms.len()
    }

    /// Number of its VMs that enforce `version` or a later one. A VM that reports a version above the published one
    /// does not count.
    pub(crate) fn enforcing(&self, version: u64, published: u64) -> usize {
        self.vms.values().filter(|enforced| (version..=published).contains(*enforced)).count()
    }
}

// === impl OpenPoll ===

impl OpenPoll {
    /// The response is ready, so the end of the poll does not mean that the gateway has disconnected.
    pub fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for OpenPoll {
    fn drop(&mut self) {
        let now = self.fleet.clock.now();
        if let Some(gateway) = self.fleet.lock().get_mut(&self.id) {
            gateway.open_polls = gateway.open_polls.saturating_sub(1);
            gateway.last_seen_at = now;
            gateway.hung_up_at = (!self.is_answered).then_some(now);
        }
        if !self.is_answered {
            self.fleet.heard.send_replace(());
        }
    }
}

#[cfg(test)]
mod binding_tests;
#[cfg(test)]
mod presence_tests;
#[cfg(test)]
mod tests;
