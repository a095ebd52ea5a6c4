//! The gateways that call: what each enforces, and how long it took.

mod enforcement;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use omniflow_policy::gateway::{EnforcedReport, Incarnation, PollRequest, VmStatus};
use omniflow_policy::time::UnixMillis;
use tokio::sync::watch;

pub use self::enforcement::{Enforcement, GatewayEnforcement};
use crate::clock::Clock;

/// A gateway that was not heard of for this long is no longer listed, in milliseconds.
const FORGOTTEN_AFTER_MS: u64 = 24 * 3_600_000;

/// All gateways that were heard of in the last day.
#[derive(Debug)]
pub struct Fleet {
    gateways: Mutex<BTreeMap<GatewayId, Gateway>>,
    heard: watch::Sender<()>,
    clock: Clock,
    lease: Duration,
}

/// One run of one gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayId {
    /// The gateway's name.
    pub gateway: String,
    /// The run of its process.
    pub incarnation: Incarnation,
}

/// What is known of a gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Version of the filter. Unknown until the gateway polls.
    pub filter_version: Option<String>,
    /// The version of the snapshot that it holds, 0 for none.
    pub version: u64,
    /// The version that each VM enforces, 0 for none.
    pub vms: BTreeMap<Incarnation, u64>,
    /// When it was first heard of.
    pub first_seen_at: UnixMillis,
    /// When it was last heard of.
    pub last_seen_at: UnixMillis,
    /// Polls that wait for an answer right now.
    pub open_polls: usize,
}

/// A poll that waits for its answer. Dropped when the answer is given or the gateway has gone.
#[derive(Debug)]
pub struct OpenPoll {
    fleet: Arc<Fleet>,
    id: GatewayId,
}

// === impl Fleet ===

impl Fleet {
    /// No gateway was heard of yet. One that is silent for longer than `lease` is not waited for.
    pub fn new(clock: Clock, lease: Duration) -> Self {
        Self { gateways: Mutex::default(), heard: watch::Sender::new(()), clock, lease }
    }

    /// Notes a poll that begins. `same_installation` tells whether the versions that it states are of this
    /// installation; otherwise they say nothing here.
    pub fn poll_began(self: &Arc<Self>, poll: &PollRequest, same_installation: bool) -> OpenPoll {
        let id = GatewayId { gateway: poll.gateway.clone(), incarnation: poll.incarnation };
        let now = self.clock.now();
        {
            let mut gateways = self.lock();
            gateways.retain(|_, gateway| {
                gateway.open_polls > 0 || now.0.saturating_sub(gateway.last_seen_at.0) < FORGOTTEN_AFTER_MS
            });
            let gateway = gateways.entry(id.clone()).or_insert_with(|| Gateway::new(now));
            gateway.filter_version = Some(poll.filter_version.clone());
            gateway.version = if same_installation { poll.version } else { 0 };
            gateway.last_seen_at = now;
            gateway.open_polls += 1;
            // A poll names all VMs; one that is not named has ended. What it states may have been overtaken by a
            // report, so a version never falls, unless it is another installation's.
            let before = std::mem::take(&mut gateway.vms);
            for VmStatus { id, version } in &poll.vms {
                let stated = if same_installation { *version } else { 0 };
                let known = if same_installation { before.get(id).copied().unwrap_or_default() } else { 0 };
                gateway.vms.insert(*id, stated.max(known));
            }
        }
        self.heard.send_replace(());
        OpenPoll { fleet: Arc::clone(self), id }
    }

    /// Notes what a gateway's VMs enforce.
    pub fn reported(&self, report: &EnforcedReport) {
        let id = GatewayId { gateway: report.gateway.clone(), incarnation: report.incarnation };
        let now = self.clock.now();
        {
            let mut gateways = self.lock();
            let gateway = gateways.entry(id).or_insert_with(|| Gateway::new(now));
            gateway.last_seen_at = now;
            for VmStatus { id, version } in &report.vms {
                let known = gateway.vms.entry(*id).or_default();
                *known = (*known).max(*version);
            }
        }
        self.heard.send_replace(());
    }

    /// All gateways in the order of their identifiers, beginning after `after`.
    pub fn list(&self, after: Option<&GatewayId>, limit: usize) -> Vec<(GatewayId, Gateway)> {
        self.lock()
            .iter()
            .filter(|(id, _)| after.is_none_or(|after| *id > after))
            .take(limit)
            .map(|(id, gateway)| (id.clone(), gateway.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GatewayId, Gateway>> {
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Gateway ===

impl Gateway {
    fn new(now: UnixMillis) -> Self {
        Self {
            filter_version: None,
            version: 0,
            vms: BTreeMap::new(),
            first_seen_at: now,
            last_seen_at: now,
            open_polls: 0,
        }
    }
}

// === impl GatewayId ===

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.gateway, self.incarnation.0)
    }
}

impl GatewayId {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (gateway, incarnation) = text.rsplit_once('/')?;
        let incarnation = Incarnation::try_from(incarnation.to_owned()).ok()?;
        Some(Self { gateway: gateway.to_owned(), incarnation })
    }
}

// === impl OpenPoll ===

impl Drop for OpenPoll {
    fn drop(&mut self) {
        let now = self.fleet.clock.now();
        if let Some(gateway) = self.fleet.lock().get_mut(&self.id) {
            gateway.open_polls = gateway.open_polls.saturating_sub(1);
            gateway.last_seen_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::policy::{Policy, PolicyDocument};
    use omniflow_policy::snapshot::Image;
    use tokio::time::Instant;
    use uuid::Uuid;

    use super::*;
    use crate::publication::Publication;

    fn fleet() -> Arc<Fleet> {
        Arc::new(Fleet::new(Clock::from_fn(|| UnixMillis(1_000)), Duration::from_secs(60)))
    }

    fn published(version: u64) -> Publication {
        let publication = Publication::empty();
        let document = PolicyDocument::default();
        let image = Image::build(Uuid::nil(), version, &document, Vec::new()).unwrap();
        publication.start(image, Policy::compile(document).unwrap(), 1);
        publication
    }

    fn poll(vms: &[(u64, u64)]) -> PollRequest {
        PollRequest {
            gateway: "edge/eu".to_owned(),
            incarnation: Incarnation(10),
            filter_version: "1".to_owned(),
            snapshot_format: 1,
            installation: None,
            version: 5,
            wait_ms: 0,
            vms: statuses(vms),
        }
    }

    fn report(vms: &[(u64, u64)]) -> EnforcedReport {
        EnforcedReport { gateway: "edge/eu".to_owned(), incarnation: Incarnation(10), vms: statuses(vms) }
    }

    fn statuses(vms: &[(u64, u64)]) -> Vec<VmStatus> {
        vms.iter().map(|(id, version)| VmStatus { id: Incarnation(*id), version: *version }).collect()
    }

    async fn progress(fleet: &Fleet, version: u64, published_version: u64) -> (bool, usize, usize) {
        let publication = published(published_version);
        let enforcement = fleet.enforced(version, &publication, None, Instant::now()).await;
        let gateway = &enforcement.gateways[0];
        (enforcement.complete, gateway.enforced_workers, gateway.workers)
    }

    #[tokio::test]
    async fn a_version_is_in_force_when_every_worker_says_so() {
        let fleet = fleet();
        let open = fleet.poll_began(&poll(&[(1, 5), (2, 5)]), true);
        assert_eq!(progress(&fleet, 6, 6).await, (false, 0, 2));
        fleet.reported(&report(&[(1, 6)]));
        assert_eq!(progress(&fleet, 6, 6).await, (false, 1, 2));
        fleet.reported(&report(&[(2, 7)]));
        assert_eq!(progress(&fleet, 6, 7).await, (true, 2, 2));
        // A worker above the published version holds what this control plane never published.
        assert_eq!(progress(&fleet, 6, 6).await, (false, 1, 2));
        drop(open);
    }

    #[tokio::test]
    async fn a_poll_names_all_workers_and_never_takes_a_report_back() {
        let fleet = fleet();
        fleet.reported(&report(&[(1, 6), (2, 6)]));
        drop(fleet.poll_began(&poll(&[(1, 5), (3, 5)]), true));
        let (_, gateway) = fleet.list(None, 10).remove(0);
        assert_eq!(gateway.vms, BTreeMap::from([(Incarnation(1), 6), (Incarnation(3), 5)]));
        drop(fleet.poll_began(&poll(&[(1, 5)]), false));
        let (_, gateway) = fleet.list(None, 10).remove(0);
        assert_eq!((gateway.version, gateway.vms), (0, BTreeMap::from([(Incarnation(1), 0)])));
    }

    #[tokio::test]
    async fn no_worker_proves_nothing() {
        let fleet = fleet();
        drop(fleet.poll_began(&poll(&[]), true));
        assert_eq!(progress(&fleet, 1, 6).await, (false, 0, 0));
    }

    #[test]
    fn identifiers_are_read_as_they_are_written() {
        let id = GatewayId { gateway: "edge/eu".to_owned(), incarnation: Incarnation(10) };
        assert_eq!(id.to_string(), "edge/eu/000000000000000a");
        assert_eq!(GatewayId::parse(&id.to_string()), Some(id));
        assert_eq!(GatewayId::parse("edge"), None);
    }

    #[test]
    fn lists_continue_behind_a_gateway() {
        let fleet = fleet();
        for incarnation in [3, 1, 2] {
            fleet.reported(&EnforcedReport { incarnation: Incarnation(incarnation), ..report(&[]) });
        }
        let ids = |after: Option<&GatewayId>| -> Vec<u64> {
            fleet.list(after, 2).iter().map(|(id, _)| id.incarnation.0).collect()
        };
        assert_eq!(ids(None), [1, 2]);
        let second = GatewayId { gateway: "edge/eu".to_owned(), incarnation: Incarnation(2) };
        assert_eq!(ids(Some(&second)), [3]);
    }
}
