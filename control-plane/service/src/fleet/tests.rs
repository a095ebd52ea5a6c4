//! The fleet, with a clock that the tests advance.

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
    let open = fleet.poll_began(&poll(&[(1, 5), (2, 5)]), VersionBounds::ALL);
    assert_eq!(progress(&fleet, 6, 6).await, (false, 0, 2));
    fleet.reported(&report(&[(1, 6), (2, 5)]), VersionBounds::ALL);
    assert_eq!(progress(&fleet, 6, 6).await, (false, 1, 2));
    fleet.reported(&report(&[(1, 6), (2, 7)]), VersionBounds::ALL);
    assert_eq!(progress(&fleet, 6, 7).await, (true, 2, 2));
    // A worker above the published version has a snapshot that this control plane never published.
    assert_eq!(progress(&fleet, 6, 6).await, (false, 1, 2));
    drop(open);
}

#[tokio::test]
async fn a_worker_that_is_no_longer_named_has_ended() {
    let fleet = fleet();
    let open = fleet.poll_began(&poll(&[(1, 5), (2, 5), (3, 5)]), VersionBounds::ALL);
    // The second VM has ended, and another has taken its place.
    fleet.reported(&report(&[(1, 6), (3, 6), (4, 6)]), VersionBounds::ALL);
    assert_eq!(progress(&fleet, 6, 6).await, (true, 3, 3));
    drop(open);
}

#[tokio::test]
async fn a_poll_names_all_workers_and_never_takes_a_report_back() {
    let fleet = fleet();
    fleet.reported(&report(&[(1, 6), (2, 6)]), VersionBounds::ALL);
    drop(fleet.poll_began(&poll(&[(1, 5), (3, 5)]), VersionBounds::ALL));
    let (_, gateway) = fleet.list(None, 10).remove(0);
    assert_eq!(gateway.vms, BTreeMap::from([(Incarnation(1), 6), (Incarnation(3), 5)]));
    drop(fleet.poll_began(&poll(&[(1, 5)]), VersionBounds::FOREIGN));
    let (_, gateway) = fleet.list(None, 10).remove(0);
    assert_eq!((gateway.version, gateway.vms), (0, BTreeMap::from([(Incarnation(1), 0)])));
}

#[test]
fn the_last_poll_tells_how_far_a_clock_is_off() {
    let fleet = fleet();
    let skew = |clock: u64| {
        let clock = UnixMillis(clock);
        drop(fleet.poll_began(&PollRequest { clock, ..poll(&[(1, 5)]) }, VersionBounds::ALL));
        fleet.reported(&report(&[(1, 5)]), VersionBounds::ALL);
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
    drop(fleet.poll_began(&poll(&[]), VersionBounds::ALL));
    assert_eq!(progress(&fleet, 1, 6).await, (false, 0, 0));
}

#[test]
fn identifiers_are_read_as_they_are_written() {
    let id = GatewayId { gateway: "edge/eu".to_owned(), incarnation: Incarnation(10) };
    assert_eq!(id.to_string(), "edge/eu/000000000000000a");
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!("edge".parse(), Err::<GatewayId, _>(omniflow_domain::gateway::InvalidGatewayId));
}

#[test]
fn lists_continue_behind_a_gateway() {
    let fleet = fleet();
    for incarnation in [3, 1, 2] {
        fleet.reported(
            &EnforcedReport { incarnation: Incarnation(incarnation), ..report(&[]) },
            VersionBounds::ALL,
        );
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
    fleet.reported(&report(&[(1, 9), (2, 9)]), VersionBounds::FOREIGN);
    assert_eq!(vms(), BTreeMap::from([(Incarnation(1), 0), (Incarnation(2), 0)]));
    fleet.reported(&report(&[(1, 6), (2, 0)]), VersionBounds::ALL);
    assert_eq!(vms(), BTreeMap::from([(Incarnation(1), 6), (Incarnation(2), 0)]));
    fleet.reported(&report(&[(1, 9), (2, 9)]), VersionBounds::FOREIGN);
    assert_eq!(vms(), BTreeMap::from([(Incarnation(1), 0), (Incarnation(2), 0)]));
}

#[test]
fn a_gateway_has_at_most_so_many_workers() {
    let fleet = fleet();
    for first in [0, MAX_VMS as u64] {
        let vms: Vec<(u64, u64)> = (first..first + MAX_VMS as u64).map(|id| (id, 5)).collect();
        fleet.reported(&report(&vms), VersionBounds::ALL);
    }
    assert_eq!(fleet.list(None, 1).remove(0).1.vms.len(), MAX_VMS);
}

#[test]
fn a_day_of_silence_is_forgotten() {
    let time = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&time);
    let clock = Clock::from_fn(move || UnixMillis(read.load(Ordering::Relaxed)));
    let fleet = Arc::new(Fleet::new(clock, Duration::from_secs(60)));
    let open = fleet.poll_began(&poll(&[(1, 5)]), VersionBounds::ALL);
    time.store(100_000_000, Ordering::Relaxed);
    assert_eq!(fleet.list(None, 1).len(), 1, "it waits for an answer");
    drop(open);
    time.fetch_add(86_400_000, Ordering::Relaxed);
    assert_eq!(fleet.list(None, 1).len(), 1);
    time.fetch_add(1, Ordering::Relaxed);
    assert_eq!(fleet.list(None, 1).len(), 0);
}
