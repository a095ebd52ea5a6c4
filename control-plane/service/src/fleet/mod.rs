//! The gateways that call: what each enforces, and how long it took.

mod confirmation;
mod enforcement;
pub mod enforcement_watch;
mod sightings;
mod status;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use omniflow_policy::gateway::{EnforcedReport, Incarnation, MAX_VMS, PollRequest, VmStatus};
use omniflow_policy::time::UnixMillis;
use tokio::sync::watch;

use omniflow_domain::clock::Clock;
use omniflow_domain::gateway::GatewayId;

/// A gateway that was not heard of for this long is no longer listed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// The most gateways that are remembered. Each run of a gateway's process is one more, and whoever holds a gateway
/// token can claim any number of them.
const MAX_GATEWAYS: usize = 10_000;

/// For how long a gateway is silent before it counts as replaced by another process of its name: longer than a change
/// of the leading VM takes, or a poll after a refusal.
const REPLACED_AFTER: Duration = Duration::from_secs(10);

/// How much longer the workers of a process may go on that is asked to end, in milliseconds, once its connection is
/// closed: its main thread does that first.
const LAST_MOMENT_MS: u64 = 1_000;

/// All gateways that were heard of in the last day.
#[derive(Debug)]
pub struct Fleet {
    gateways: Mutex<BTreeMap<GatewayId, Gateway>>,
    heard: watch::Sender<()>,
    clock: Clock,
    lease: Duration,
    /// When this process began to listen.
    began: UnixMillis,
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
    /// The highest version that all its VMs have enforced, 0 for none.
    confirmed: u64,
    /// When it was first heard of.
    pub first_seen_at: UnixMillis,
    /// When it was last heard of.
    pub last_seen_at: UnixMillis,
    /// How far its clock was ahead of this one's at its last poll, in milliseconds; negative where it was behind.
    /// The time that the poll was on its way makes this smaller. Unknown where the filter does not state its clock.
    pub clock_skew_ms: Option<i64>,
    /// Polls that wait for an answer right now.
    pub open_polls: usize,
    /// When its connection ended while a poll was waiting, if nothing was heard of it since.
    hung_up_at: Option<UnixMillis>,
    /// The time of the last sighting that is noted in the database.
    noted_at: Option<UnixMillis>,
    /// When this process began, for a gateway that may have been live when the one before it ended.
    expected_since: Option<UnixMillis>,
}

/// A poll that waits for its answer. Dropped when the answer is given or the gateway has gone.
#[derive(Debug)]
pub struct OpenPoll {
    fleet: Arc<Fleet>,
    id: GatewayId,
    is_answered: bool,
}

// === impl Fleet ===

impl Fleet {
    /// No gateway was heard of yet. One that is silent for longer than `lease` is not waited for.
    pub fn new(clock: Clock, lease: Duration) -> Self {
        let began = clock.now();
        Self { gateways: Mutex::default(), heard: watch::Sender::new(()), clock, lease, began }
    }

    /// Notes a poll that begins. `same_installation` tells whether the versions that it states are of this
    /// installation; otherwise they say nothing here.
    pub fn poll_began(self: &Arc<Self>, poll: &PollRequest, same_installation: bool) -> OpenPoll {
        let id = GatewayId { gateway: poll.gateway.clone(), incarnation: poll.incarnation };
        let clock_skew_ms = Some(ahead(poll.clock, self.clock.now()));
        self.note(&id, |gateway| {
            gateway.clock_skew_ms = clock_skew_ms;
            gateway.filter_version = Some(poll.filter_version.clone());
            gateway.version = if same_installation { poll.version } else { 0 };
            gateway.open_polls += 1;
            gateway.take_vms(&poll.vms, same_installation);
        });
        OpenPoll { fleet: Arc::clone(self), id, is_answered: false }
    }

    /// Notes what a gateway's VMs enforce. `same_installation` is as in [`Self::poll_began`].
    pub fn reported(&self, report: &EnforcedReport, same_installation: bool) {
        let id = GatewayId { gateway: report.gateway.clone(), incarnation: report.incarnation };
        self.note(&id, |gateway| gateway.take_vms(&report.vms, same_installation));
    }

    /// All gateways in the order of their identifiers, beginning after `after`.
    pub fn list(&self, after: Option<&GatewayId>, limit: usize) -> Vec<(GatewayId, Gateway)> {
        let now = self.clock.now();
        self.lock()
            .iter()
            .filter(|(_, gateway)| gateway.is_remembered(now))
            .filter(|(id, _)| after.is_none_or(|after| *id > after))
            .take(limit)
            .map(|(id, gateway)| (id.clone(), gateway.clone()))
            .collect()
    }

    /// Whether a gateway was heard of in the last day.
    pub(crate) fn remembers(&self, id: &GatewayId) -> bool {
        self.lock().get(id).is_some_and(|gateway| gateway.is_remembered(self.clock.now()))
    }

    /// How many gateways count as running, and how many others were heard of in the last day.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let now = self.clock.now();
        let gateways = self.lock();
        let remembered = gateways.values().filter(|gateway| gateway.is_remembered(now));
        remembered.fold((0, 0), |(live, silent), gateway| {
            if gateway.is_live(now, self.lease) { (live + 1, silent) } else { (live, silent + 1) }
        })
    }

    /// When a gateway, of which audit records came last at `heard_at`, had ended at the latest; `None` if it may still be
    /// there. It is taken for gone when it was silent for a lease, or for a moment while another process of its name has
    /// come. Two that call at once are replicas, or one that hands over to the other.
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
        // Whose connection was seen to end has ended about then. Of any other nobody knows how long it went on.
        let hung_up_at =
            known.and_then(|gateway| gateway.hung_up_at).map(|at| UnixMillis(at.0 + LAST_MOMENT_MS));
        Some(hung_up_at.map_or(now, |at| at.min(now)).max(heard_at))
    }

    /// Notes that a gateway was heard of, and what it said.
    fn note(&self, id: &GatewayId, said: impl FnOnce(&mut Gateway)) {
        let now = self.clock.now();
        {
            let mut gateways = self.lock();
            if !gateways.contains_key(id) {
                make_room(&mut gateways, now);
            }
            let gateway = gateways.entry(id.clone()).or_insert_with(|| Gateway::new(now));
            gateway.last_seen_at = now;
            gateway.hung_up_at = None;
            said(gateway);
        }
        self.heard.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GatewayId, Gateway>> {
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a VM enforces after it has said so. A version never falls, unless it is another installation's.
fn enforced(vm: &VmStatus, known: u64, same_installation: bool) -> u64 {
    if same_installation { vm.version.max(known) } else { 0 }
}

/// How long ago `then` is; nothing if it lies ahead.
fn since(then: UnixMillis, now: UnixMillis) -> Duration {
    Duration::from_millis(now.0.saturating_sub(then.0))
}

/// By how many milliseconds one instant is later than another; negative where it is earlier.
fn ahead(one: UnixMillis, other: UnixMillis) -> i64 {
    let distance = i64::try_from(one.0.abs_diff(other.0)).unwrap_or(i64::MAX);
    if one >= other { distance } else { -distance }
}

/// Forgets the gateways that are long silent and, where there are too many, the one that is silent longest.
/// A poll that is open has a connection of its own, so these are not without end either.
fn make_room(gateways: &mut BTreeMap<GatewayId, Gateway>, now: UnixMillis) {
    gateways.retain(|_, gateway| gateway.is_remembered(now));
    if gateways.len() >= MAX_GATEWAYS {
        let silent = gateways.iter().filter(|(_, gateway)| !gateway.is_connected());
        let oldest = silent.min_by_key(|(_, gateway)| gateway.last_seen_at).map(|(id, _)| id.clone());
        if let Some(oldest) = oldest {
            tracing::debug!(gateway = %oldest, "too many gateways, removing the longest silent one");
            gateways.remove(&oldest);
        }
    }
}

// === impl Gateway ===

impl Gateway {
    fn new(now: UnixMillis) -> Self {
        Self {
            filter_version: None,
            version: 0,
            vms: BTreeMap::new(),
            confirmed: 0,
            first_seen_at: now,
            last_seen_at: now,
            clock_skew_ms: None,
            open_polls: 0,
            hung_up_at: None,
            noted_at: None,
            expected_since: None,
        }
    }

    /// Whether it waits for an answer right now.
    pub(crate) fn is_connected(&self) -> bool {
        self.open_polls > 0
    }

    /// Takes over what it says of its VMs. Polls and reports name all of them; one that is not named has ended. What
    /// they state may have been overtaken on the way, so the versions that are known still count.
    fn take_vms(&mut self, vms: &[VmStatus], same_installation: bool) {
        let before = std::mem::take(&mut self.vms);
        for vm in vms.iter().take(MAX_VMS) {
            let known = before.get(&vm.id).copied().unwrap_or_default();
            self.vms.insert(vm.id, enforced(vm, known, same_installation));
        }
    }

    /// Whether it counts as running: it is connected, or was heard of within the lease. After a restart, one that may
    /// have been live has a lease to come back.
    pub(crate) fn is_live(&self, now: UnixMillis, lease: Duration) -> bool {
        let heard_or_expected = self.expected_since.map_or(self.last_seen_at, |at| at.max(self.last_seen_at));
        self.is_connected() || since(heard_or_expected, now) <= lease
    }

    /// Whether it was heard of so lately that it is still reported.
    fn is_remembered(&self, now: UnixMillis) -> bool {
        self.is_connected() || since(self.last_seen_at, now) <= FORGOTTEN_AFTER
    }

    /// Whether all its VMs enforce `version` or a later one. A gateway that named no VM has proved nothing.
    pub(crate) fn enforces(&self, version: u64, published: u64) -> bool {
        !self.vms.is_empty() && self.enforcing(version, published) == self.vms.len()
    }

    /// How many of its VMs enforce `version` or a later one. One that claims a version above the published one
    /// enforces something else.
    pub(crate) fn enforcing(&self, version: u64, published: u64) -> usize {
        self.vms.values().filter(|enforced| (version..=published).contains(*enforced)).count()
    }
}

// === impl OpenPoll ===

impl OpenPoll {
    /// The poll is answered: that it ends says nothing of the gateway.
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
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

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
            cut_after_ms: None,
            clock: omniflow_policy::time::UnixMillis(0),
            vms: statuses(vms),
        }
    }

    fn report(vms: &[(u64, u64)]) -> EnforcedReport {
        EnforcedReport {
            gateway: "edge/eu".to_owned(),
            incarnation: Incarnation(10),
            installation: None,
            vms: statuses(vms),
        }
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
    async fn a_version_is_enforced_when_every_worker_says_so() {
        let fleet = fleet();
        let open = fleet.poll_began(&poll(&[(1, 5), (2, 5)]), true);
        assert_eq!(progress(&fleet, 6, 6).await, (false, 0, 2));
        fleet.reported(&report(&[(1, 6), (2, 5)]), true);
        assert_eq!(progress(&fleet, 6, 6).await, (false, 1, 2));
        fleet.reported(&report(&[(1, 6), (2, 7)]), true);
        assert_eq!(progress(&fleet, 6, 7).await, (true, 2, 2));
        // A worker above the published version holds what this control plane never published.
        assert_eq!(progress(&fleet, 6, 6).await, (false, 1, 2));
        drop(open);
    }

    #[tokio::test]
    async fn a_worker_that_is_no_longer_named_has_ended() {
        let fleet = fleet();
        let open = fleet.poll_began(&poll(&[(1, 5), (2, 5), (3, 5)]), true);
        // The second VM has ended, and another has taken its place.
        fleet.reported(&report(&[(1, 6), (3, 6), (4, 6)]), true);
        assert_eq!(progress(&fleet, 6, 6).await, (true, 3, 3));
        drop(open);
    }

    #[tokio::test]
    async fn a_poll_names_all_workers_and_never_takes_a_report_back() {
        let fleet = fleet();
        fleet.reported(&report(&[(1, 6), (2, 6)]), true);
        drop(fleet.poll_began(&poll(&[(1, 5), (3, 5)]), true));
        let (_, gateway) = fleet.list(None, 10).remove(0);
        assert_eq!(gateway.vms, BTreeMap::from([(Incarnation(1), 6), (Incarnation(3), 5)]));
        drop(fleet.poll_began(&poll(&[(1, 5)]), false));
        let (_, gateway) = fleet.list(None, 10).remove(0);
        assert_eq!((gateway.version, gateway.vms), (0, BTreeMap::from([(Incarnation(1), 0)])));
    }

    #[test]
    fn the_last_poll_tells_how_far_a_clock_is_off() {
        let fleet = fleet();
        let skew = |clock: u64| {
            let clock = UnixMillis(clock);
            drop(fleet.poll_began(&PollRequest { clock, ..poll(&[(1, 5)]) }, true));
            fleet.reported(&report(&[(1, 5)]), true);
            fleet.list(None, 1).remove(0).1.clock_skew_ms
        };
        assert_eq!(skew(1_000), Some(0));
        assert_eq!(skew(1_250), Some(250), "a report in between does not hide it");
        assert_eq!(skew(0), Some(-1_000));
        assert_eq!(skew(u64::MAX), Some(i64::MAX));
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
            fleet.reported(&EnforcedReport { incarnation: Incarnation(incarnation), ..report(&[]) }, true);
        }
        let ids = |after: Option<&GatewayId>| -> Vec<u64> {
            fleet.list(after, 2).iter().map(|(id, _)| id.incarnation.0).collect()
        };
        assert_eq!(ids(None), [1, 2]);
        let second = GatewayId { gateway: "edge/eu".to_owned(), incarnation: Incarnation(2) };
        assert_eq!(ids(Some(&second)), [3]);
    }

    #[test]
    fn versions_of_another_installation_say_nothing() {
        let fleet = fleet();
        let vms = || fleet.list(None, 1).remove(0).1.vms;
        fleet.reported(&report(&[(1, 9), (2, 9)]), false);
        assert_eq!(vms(), BTreeMap::from([(Incarnation(1), 0), (Incarnation(2), 0)]));
        fleet.reported(&report(&[(1, 6), (2, 0)]), true);
        assert_eq!(vms(), BTreeMap::from([(Incarnation(1), 6), (Incarnation(2), 0)]));
        fleet.reported(&report(&[(1, 9), (2, 9)]), false);
        assert_eq!(vms(), BTreeMap::from([(Incarnation(1), 0), (Incarnation(2), 0)]));
    }

    #[test]
    fn the_fleet_does_not_grow_without_end() {
        let time = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&time);
        let clock = Clock::from_fn(move || UnixMillis(read.fetch_add(1, Ordering::Relaxed)));
        let fleet = Arc::new(Fleet::new(clock, Duration::from_secs(60)));
        let named = |number: u64| EnforcedReport { incarnation: Incarnation(number), ..report(&[]) };
        let open = fleet.poll_began(&poll(&[(1, 5)]), true);
        let count = MAX_GATEWAYS as u64 + 5;
        for number in 100..100 + count {
            fleet.reported(&named(number), true);
        }
        // The one with an open poll stays though it was heard of first; the oldest of the others are gone.
        let ids: Vec<u64> = fleet.list(None, usize::MAX).iter().map(|(id, _)| id.incarnation.0).collect();
        let expected: Vec<u64> = std::iter::once(10).chain(106..100 + count).collect();
        assert_eq!(ids, expected);
        drop(open);

        for first in [0, MAX_VMS as u64] {
            let vms: Vec<(u64, u64)> = (first..first + MAX_VMS as u64).map(|id| (id, 5)).collect();
            fleet.reported(&report(&vms), true);
        }
        assert_eq!(fleet.list(None, 1).remove(0).1.vms.len(), MAX_VMS);
    }

    #[test]
    fn a_day_of_silence_is_forgotten() {
        let time = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&time);
        let clock = Clock::from_fn(move || UnixMillis(read.load(Ordering::Relaxed)));
        let fleet = Arc::new(Fleet::new(clock, Duration::from_secs(60)));
        let open = fleet.poll_began(&poll(&[(1, 5)]), true);
        time.store(100_000_000, Ordering::Relaxed);
        assert_eq!(fleet.list(None, 1).len(), 1, "it waits for an answer");
        drop(open);
        time.fetch_add(86_400_000, Ordering::Relaxed);
        assert_eq!(fleet.list(None, 1).len(), 1);
        time.fetch_add(1, Ordering::Relaxed);
        assert_eq!(fleet.list(None, 1).len(), 0);
    }
}
