//! The runs of gateways that count, with a clock that the tests advance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use omniflow_domain::clock::Clock;
use omniflow_domain::gateway::{Enforcement, GatewayId, GatewayState};
use omniflow_domain::token::{Role, Token};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::{Incarnation, PollRequest, VmStatus};
use omniflow_policy::policy::{Policy, PolicyDocument};
use omniflow_policy::snapshot::Image;
use omniflow_policy::time::UnixMillis;
use omniflow_store::Store;
use omniflow_store_sqlite::SqliteStore;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Fleet, OpenPoll, VersionBounds};
use crate::publication::Publication;

const LEASE: u64 = 60;
const DAY: u64 = 86_400;

/// A fleet, the elapsed seconds, and the published version.
pub(super) struct World {
    pub(super) fleet: Arc<Fleet>,
    millis: Arc<AtomicU64>,
    publication: Publication,
}

impl World {
    pub(super) fn new() -> Self {
        let millis = Arc::new(AtomicU64::new(1_000));
        let read = Arc::clone(&millis);
        let clock = Clock::from_fn(move || UnixMillis(read.load(Ordering::Relaxed)));
        let publication = Publication::empty();
        let document = PolicyDocument::default();
        let image = Image::build(Uuid::nil(), 10, &document, Vec::new()).unwrap();
        publication.start(image, Policy::compile(document).unwrap(), 1);
        let fleet = Arc::new(Fleet::new(clock, Duration::from_secs(LEASE)));
        Self { fleet, millis, publication }
    }

    /// Another process of the control plane on the same store, at the same time.
    async fn restarted(self, store: &dyn Store) -> Self {
        self.fleet.memorise(store).await.unwrap();
        let read = Arc::clone(&self.millis);
        let clock = Clock::from_fn(move || UnixMillis(read.load(Ordering::Relaxed)));
        let fleet = Arc::new(Fleet::new(clock, Duration::from_secs(LEASE)));
        fleet.recall(store).await.unwrap();
        Self { fleet, ..self }
    }

    pub(super) fn seconds(&self, seconds: u64) {
        self.millis.fetch_add(seconds * 1_000, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> UnixMillis {
        UnixMillis(self.millis.load(Ordering::Relaxed))
    }

    /// A poll with a token, which waits until it is dropped (the connection ends) or receives a response.
    pub(super) fn poll(&self, token: &Token, run: u64, version: u64) -> OpenPoll {
        self.fleet.admit(token, &id("edge", run)).unwrap();
        self.fleet.poll_began(&request("edge", run, version), VersionBounds::ALL)
    }

    /// A poll that received a response.
    pub(super) fn polled(&self, token: &Token, run: u64, version: u64) {
        self.poll(token, run, version).answered();
    }

    /// The enforcement status of version 10, without waiting.
    async fn enforcement(&self) -> Enforcement {
        self.fleet.enforced(10, &self.publication, None, Instant::now()).await
    }

    /// Whether version 10 is enforced everywhere, and the runs that count with their states.
    pub(super) async fn counted(&self) -> (bool, Vec<(u64, GatewayState)>) {
        let found = self.enforcement().await;
        let runs = found.gateways.iter().map(|gateway| (gateway.id.incarnation.0, gateway.state));
        (found.complete, runs.collect())
    }

    fn listed(&self) -> Vec<(u64, GatewayState)> {
        let all = self.fleet.status(None, 9, 10);
        all.iter().map(|gateway| (gateway.id.incarnation.0, gateway.state)).collect()
    }
}

pub(super) fn id(name: &str, run: u64) -> GatewayId {
    GatewayId { gateway: name.to_owned(), incarnation: Incarnation(run) }
}

fn request(name: &str, run: u64, version: u64) -> PollRequest {
    PollRequest {
        gateway: name.to_owned(),
        incarnation: Incarnation(run),
        filter_version: "1".to_owned(),
        snapshot_format: 1,
        installation: None,
        version,
        wait_ms: 0,
        cut_after_ms: None,
        clock: UnixMillis(0),
        vms: vec![VmStatus { id: Incarnation(1), version }],
    }
}

/// A gateway token that lists these gateways and expires after this many seconds.
pub(super) fn token(n: u8, gateways: &[&str], expires_after: Option<u64>) -> Token {
    Token {
        id: Uuid::from_u128(u128::from(n)),
        name: format!("token-{n}").parse().unwrap(),
        role: Role::Gateway,
        gateways: gateways.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        digest: Digest::of(&[n]),
        created_by: "owner".to_owned(),
        created_at: UnixMillis(0),
        expires_at: expires_after.map(|seconds| UnixMillis(1_000 + seconds * 1_000)),
    }
}

#[tokio::test]
async fn silent_gateway_counts_as_not_enforcing_for_a_day() {
    let world = World::new();
    let any = token(1, &[], None);
    world.polled(&any, 1, 9);
    assert_eq!(world.counted().await, (false, vec![(1, GatewayState::Behind)]));
    world.seconds(LEASE + 1);
    assert_eq!(world.counted().await, (false, vec![(1, GatewayState::Silent)]));
    world.seconds(DAY - LEASE - 1);
    assert_eq!(world.counted().await, (false, vec![(1, GatewayState::Silent)]));
    world.seconds(1);
    assert_eq!(world.counted().await, (true, vec![]));
}

#[tokio::test]
async fn silent_gateway_still_enforces_what_it_has_confirmed() {
    let world = World::new();
    world.polled(&token(1, &[], None), 1, 10);
    world.seconds(LEASE + 1);
    assert_eq!(world.counted().await, (true, vec![(1, GatewayState::Silent)]));
}

#[tokio::test(start_paused = true)]
async fn wait_ends_at_once_if_only_gateways_that_cannot_confirm_are_missing() {
    let world = World::new();
    world.polled(&token(1, &[], None), 1, 9);
    world.seconds(LEASE + 1);
    let began = Instant::now();
    let deadline = began + Duration::from_secs(30);
    let found = world.fleet.enforced(10, &world.publication, None, deadline).await;
    assert_eq!((found.complete, found.gateways.len(), began.elapsed()), (false, 1, Duration::ZERO));
    let _open = world.poll(&token(1, &[], None), 1, 9);
    let found = world.fleet.enforced(10, &world.publication, None, deadline).await;
    assert_eq!((found.complete, began.elapsed() >= Duration::from_secs(30)), (false, true), "it is live");
}

#[tokio::test]
async fn gateway_with_an_expired_token_counts_while_its_requests_are_rejected() {
    let world = World::new();
    let short = token(1, &[], Some(30));
    world.polled(&short, 1, 9);
    assert_eq!(world.fleet.counts().expiring_tokens, 1);
    world.seconds(30);
    let expected = (false, vec![(1, GatewayState::TokenExpired)]);
    assert_eq!(world.counted().await, expected, "within its lease");
    assert!(world.fleet.counts().by_state.contains(&("token_expired", 1)));
    for _ in 0..3 {
        world.seconds(DAY - 1);
        world.fleet.token_rejected(short.digest, true);
        assert_eq!(world.counted().await, expected, "a rejected request is a sign of life");
    }
    world.fleet.token_rejected(Digest::of(b"another"), true);
    world.seconds(DAY + 1);
    assert_eq!(world.counted().await, (true, vec![]));
}

#[tokio::test]
async fn gateway_with_a_revoked_token_counts_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let world = World::new();
    let gone = token(1, &[], None);
    world.polled(&gone, 1, 9);
    world.fleet.token_revoked(&gone);
    let expected = (false, vec![(1, GatewayState::TokenRevoked)]);
    assert_eq!(world.counted().await, expected);
    assert!(world.fleet.admit(&gone, &id("edge", 1)).is_err(), "a request that was on its way");
    let world = world.restarted(&store).await;
    for _ in 0..3 {
        world.seconds(DAY - 1);
        world.fleet.token_rejected(gone.digest, false);
        assert_eq!(world.counted().await, expected);
    }
}

#[tokio::test]
async fn drained_gateway_has_ended_after_its_lease_and_a_killed_one_has_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let world = World::new();
    let any = token(1, &[], None);
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_token(&any).await.unwrap();
    transaction.commit().await.unwrap();
    let (drained, killed) = (world.poll(&any, 1, 9), world.poll(&any, 2, 9));
    world.fleet.note_progress(&id("edge", 1), true);
    world.fleet.note_progress(&id("edge", 2), false);
    drop((drained, killed));
    world.seconds(LEASE);
    let live = vec![(1, GatewayState::Behind), (2, GatewayState::Behind)];
    assert_eq!(world.counted().await, (false, live), "they may come back");
    world.seconds(1);
    assert_eq!(world.counted().await, (false, vec![(2, GatewayState::Silent)]));
    assert_eq!(world.listed(), [(1, GatewayState::Ended), (2, GatewayState::Silent)]);
    let world = world.restarted(&store).await;
    assert_eq!(world.counted().await, (false, vec![(2, GatewayState::Silent)]));
}

#[tokio::test]
async fn answered_poll_is_not_the_end_of_a_gateway() {
    let world = World::new();
    world.polled(&token(1, &[], None), 1, 9);
    world.fleet.note_progress(&id("edge", 1), true);
    world.seconds(LEASE + 1);
    assert_eq!(world.listed(), [(1, GatewayState::Silent)]);
}

#[tokio::test]
async fn newer_run_replaces_an_old_one_when_its_connection_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let world = World::new();
    let any = token(1, &[], None);
    let old = world.poll(&any, 7, 9);
    world.fleet.note_progress(&id("edge", 7), false);
    world.seconds(1);
    drop(old);
    assert_eq!(world.counted().await, (false, vec![(7, GatewayState::Behind)]));
    world.seconds(1);
    let new = world.poll(&any, 3, 10);
    assert_eq!(world.counted().await, (true, vec![(3, GatewayState::InStep)]));
    assert_eq!(world.listed(), [(3, GatewayState::InStep)]);
    drop(new);
    let world = world.restarted(&store).await;
    assert_eq!(world.listed().len(), 1, "it stays replaced");
}

#[tokio::test]
async fn hot_restarted_run_is_replaced_when_it_ends() {
    let world = World::new();
    let any = token(1, &[], None);
    let old = world.poll(&any, 1, 9);
    world.seconds(1);
    let _new = world.poll(&any, 2, 10);
    let both = vec![(1, GatewayState::Behind), (2, GatewayState::InStep)];
    assert_eq!(world.counted().await, (false, both), "both are connected");
    world.fleet.note_progress(&id("edge", 1), false);
    drop(old);
    assert_eq!(world.counted().await, (true, vec![(2, GatewayState::InStep)]));
}

#[tokio::test]
async fn run_without_a_connection_is_replaced_after_its_lease() {
    let world = World::new();
    let any = token(1, &[], None);
    world.polled(&any, 1, 9);
    world.seconds(30);
    let _new = world.poll(&any, 2, 10);
    assert!(!world.counted().await.0, "its lease is not over");
    world.seconds(LEASE);
    assert_eq!(world.counted().await, (true, vec![(2, GatewayState::InStep)]));
}

#[tokio::test]
async fn cut_off_replica_is_not_replaced_by_the_restart_of_another() {
    let world = World::new();
    let any = token(1, &[], None);
    let other = world.poll(&any, 2, 10);
    world.polled(&any, 1, 9);
    world.seconds(1);
    drop(other);
    world.seconds(1);
    let _successor = world.poll(&any, 3, 10);
    world.seconds(LEASE);
    let expected = vec![(1, GatewayState::Silent), (3, GatewayState::InStep)];
    assert_eq!(world.counted().await, (false, expected));
}

#[tokio::test]
async fn restart_with_a_new_token_replaces_the_run_whose_token_was_rejected() {
    let world = World::new();
    let (short, new) = (token(1, &[], Some(10)), token(2, &[], None));
    world.polled(&short, 1, 9);
    world.seconds(10);
    world.fleet.token_rejected(short.digest, true);
    world.seconds(2);
    let _open = world.poll(&new, 2, 10);
    assert!(!world.counted().await.0, "it was heard of two seconds ago");
    world.seconds(9);
    assert_eq!(world.counted().await, (true, vec![(2, GatewayState::InStep)]));
}

#[tokio::test]
async fn removed_run_does_not_count_until_it_calls_again() {
    let world = World::new();
    let any = token(1, &[], None);
    let old = world.poll(&any, 1, 9);
    drop(old);
    world.seconds(1);
    world.polled(&any, 2, 9);
    world.seconds(LEASE + 1);
    let removed = world.fleet.with_replaced(&id("edge", 2));
    assert_eq!(removed, [id("edge", 1), id("edge", 2)], "what it has replaced goes too");
    world.fleet.remove(&removed);
    assert_eq!(world.counted().await, (true, vec![]));
    world.polled(&any, 2, 9);
    assert_eq!(world.counted().await, (false, vec![(2, GatewayState::Behind)]));
}
