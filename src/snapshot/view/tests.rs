use omniflow_policy::address::Allowlist;
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::snapshot::{Change, Credential, Delta, Image};
use uuid::Uuid;

use super::*;
use crate::workers::shared_data::Entry;

/// Room for all segments.
const CAPACITY: usize = 1 << 20;
const NOW: MonotonicNanos = MonotonicNanos(1_000_000_000);

fn credential(number: u32) -> Credential {
    Credential {
        digest: Digest::of(&number.to_le_bytes()),
        key_id: Uuid::from_u128(number.into()),
        version: 1,
        environment: Environment::Live,
        revoked: false,
        not_after: None,
        name: format!("key-{number}"),
        scopes: ScopeSet::default(),
        rate_limit: RateLimit::default(),
        allowlist: Allowlist::default(),
    }
}

fn image(version: u64) -> Image {
    let credentials = (0..2_000).map(credential).collect();
    match Image::build(Uuid::from_u128(1), version, &PolicyDocument::default(), credentials) {
        Ok(image) => image,
        Err(error) => panic!("{error}"),
    }
}

fn write(entry: &Entry, value: &[u8]) {
    assert_eq!(shared_data::swap(entry, &shared_data::get(entry), value), Ok(()));
}

/// Writes an image into shared data as a leader does: segments, manifest, head.
fn publish(names: &Names, image: &Image, slot: u8) {
    for (index, segment) in (0..).zip(image.segments()) {
        write(&names.segment(slot, index), segment);
    }
    write(&names.manifest(slot), &image.manifest().encode());
    let version = image.manifest().version;
    let head = Head {
        process: Incarnation(1),
        slot,
        version,
        manifest_version: version,
        confirmed: NOW.0,
        serves_from: 0,
        recent: Vec::new(),
    };
    let read = shared_data::get_as(&names.head());
    assert_eq!(shared_data::swap_as(&names.head(), &read, &head), Ok(()));
}

/// Revokes a key in shared data as a leader does with a delta. Returns the segment that has changed.
fn revoke(names: &Names, image: &mut Image, number: u32) -> u32 {
    let from = image.manifest().version;
    let changes = vec![Change::Revoke(credential(number).digest)];
    let delta = Delta { installation: Uuid::from_u128(1), from, to: from + 1, policy: None, changes };
    *image = image.apply(&delta).unwrap_or_else(|error| panic!("{error}"));
    let segment = image.manifest().segment_of(&credential(number).digest);
    write(&names.segment(0, segment), image.segments().nth(segment as usize).unwrap_or_default());
    let mut read = shared_data::get_as::<Head>(&names.head());
    let mut head = read.value.take().unwrap_or_else(|| panic!("no head"));
    head.recent.push((segment, from + 1));
    assert_eq!(shared_data::swap_as(&names.head(), &read, &Head { version: from + 1, ..head }), Ok(()));
    segment
}

#[test]
fn starting_process_serves_from_the_version_that_was_published() {
    let names = Names::for_test("serves-from");
    let mut image = image(2);
    publish(&names, &image, 0);
    let mut read = shared_data::get_as::<Head>(&names.head());
    let head = read.value.take().unwrap_or_else(|| panic!("no head"));
    let serves_from = head.version + 1;
    assert_eq!(shared_data::swap_as(&names.head(), &read, &Head { serves_from, ..head }), Ok(()));
    let mut view = SnapshotView::new(names.clone(), usize::MAX);
    view.refresh();
    assert!(view.open(NOW, None).is_none(), "key 1 may have been revoked since");
    revoke(&names, &mut image, 1);
    view.refresh();
    assert!(is_revoked(&mut view, 1));
}

fn is_revoked(view: &mut SnapshotView, number: u32) -> bool {
    let Some((_, segments)) = view.open(NOW, None) else { panic!("no snapshot") };
    match segments.find(&credential(number).digest) {
        Ok(Some(key)) => key.revoked,
        _ => panic!("key {number} is not found"),
    }
}

/// Two keys in different segments.
fn apart(image: &Image) -> (u32, u32) {
    let segment = |number| image.manifest().segment_of(&credential(number).digest);
    let other = (1..).find(|number| segment(*number) != segment(0));
    (0, other.unwrap_or_default())
}

#[test]
fn late_message_leaves_no_stale_segment() {
    let names = Names::for_test("late");
    let mut image = image(10);
    publish(&names, &image, 0);
    let (first, second) = apart(&image);
    let mut view = SnapshotView::new(names.clone(), CAPACITY);
    view.tick(NOW);
    assert!(!is_revoked(&mut view, first) && !is_revoked(&mut view, second), "both segments are copied");
    let segment = revoke(&names, &mut image, first);
    let other_segment = revoke(&names, &mut image, second);
    assert_ne!(segment, other_segment);
    // The message about the first change arrives when the second is in shared data.
    view.refresh_segments(10, 11, &[segment]);
    assert_eq!(view.version(), 12);
    assert!(is_revoked(&mut view, first) && is_revoked(&mut view, second));
}

#[test]
fn only_changed_segments_are_dropped_if_known() {
    let names = Names::for_test("some");
    let mut image = image(10);
    publish(&names, &image, 0);
    let (first, second) = apart(&image);
    let mut view = SnapshotView::new(names.clone(), CAPACITY);
    view.tick(NOW);
    assert!(!is_revoked(&mut view, first) && !is_revoked(&mut view, second));
    let segment = revoke(&names, &mut image, first);
    view.refresh_segments(10, 11, &[segment]);
    let copies = view.current.as_ref().map(|current| current.segments.len());
    assert_eq!((view.version(), copies), (11, Some(1)));
    assert!(is_revoked(&mut view, first));
}

#[test]
fn change_without_a_message_is_adopted_at_the_tick_and_by_an_overdue_request() {
    let names = Names::for_test("no-message");
    let mut image = image(10);
    publish(&names, &image, 0);
    let mut view = SnapshotView::new(names.clone(), CAPACITY);
    view.tick(NOW);
    assert!(!is_revoked(&mut view, 1));
    revoke(&names, &mut image, 1);
    let later = MonotonicNanos(NOW.0 + 1_100_000_000);
    let Some((_, segments)) = view.open(later, None) else { panic!("no snapshot") };
    assert!(matches!(segments.find(&credential(1).digest), Ok(Some(key)) if key.revoked));
    revoke(&names, &mut image, 2);
    view.tick(later);
    assert!(is_revoked(&mut view, 2));
}

#[test]
fn full_image_in_the_other_slot_replaces_all_segments() {
    let names = Names::for_test("slots");
    let mut first = image(10);
    publish(&names, &first, 0);
    let mut view = SnapshotView::new(names.clone(), CAPACITY);
    view.tick(NOW);
    assert!(!is_revoked(&mut view, 3));
    revoke(&names, &mut first, 3);
    publish(&names, &first.repartition().unwrap_or_else(|error| panic!("{error}")).at_version(20), 1);
    view.refresh();
    assert_eq!(view.version(), 20);
    assert!(is_revoked(&mut view, 3));
}

#[test]
fn missing_or_damaged_segment_is_not_an_unknown_key() {
    let names = Names::for_test("damaged");
    let image = image(10);
    publish(&names, &image, 0);
    let segment = image.manifest().segment_of(&credential(0).digest);
    for damage in [&b""[..], b"garbage"] {
        write(&names.segment(0, segment), damage);
        let mut view = SnapshotView::new(names.clone(), CAPACITY);
        let Some((_, segments)) = view.open(NOW, None) else { panic!("no snapshot") };
        assert!(segments.find(&credential(0).digest).is_err());
    }
}

/// What another plugin sees of an entry, and writes.
fn raw(entry: &Entry) -> Vec<u8> {
    host::shared_data(entry.name()).0.unwrap_or_default()
}

fn overwrite(entry: &Entry, value: &[u8]) {
    assert!(host::set_shared_data(entry.name(), value, 0));
}

/// The number of rejected entries since the last call.
fn rejected() -> u64 {
    shared_data::take_rejected().map_or(0, |rejected| rejected.number)
}

#[test]
fn segment_of_another_plugin_does_not_revive_a_revoked_key() {
    let names = Names::for_test("forged");
    let mut image = image(10);
    publish(&names, &image, 0);
    let entry = names.segment(0, image.manifest().segment_of(&credential(5).digest));
    let before = raw(&entry);
    // A plugin cannot make a tag, but it can compute the checksum of a segment in which the key is not revoked.
    let forged = image.segments().nth(image.manifest().segment_of(&credential(5).digest) as usize);
    let forged = forged.unwrap_or_default().to_vec();
    revoke(&names, &mut image, 5);
    let mut running = SnapshotView::new(names.clone(), CAPACITY);
    running.tick(NOW);
    assert!(is_revoked(&mut running, 5));
    for hostile in [[&forged[..], &[0; 8]].concat(), forged.clone(), before] {
        overwrite(&entry, &hostile);
        // A VM that has a copy keeps it. One that has none refuses, and requests a new image.
        running.tick(NOW);
        assert!(is_revoked(&mut running, 5) && !running.needs_image());
        let mut started = SnapshotView::new(names.clone(), CAPACITY);
        started.tick(NOW);
        let Some((_, segments)) = started.open(NOW, None) else { panic!("no snapshot") };
        assert!(segments.find(&credential(5).digest).is_err());
        assert!(started.needs_image() && rejected() == 1);
    }
    // The new image, of the same version, is written into the other slot.
    publish(&names, &image, 1);
    running.refresh();
    assert!(is_revoked(&mut running, 5) && !running.needs_image());
}

#[test]
fn head_of_another_plugin_is_replaced_by_the_last_one() {
    let names = Names::for_test("head");
    let mut image = image(10);
    publish(&names, &image, 0);
    let before = raw(&names.head());
    revoke(&names, &mut image, 5);
    let mut view = SnapshotView::new(names.clone(), CAPACITY);
    view.tick(NOW);
    let current = raw(&names.head());
    for hostile in [before, Vec::new(), vec![0; 40]] {
        overwrite(&names.head(), &hostile);
        view.tick(NOW);
        assert_eq!((view.version(), raw(&names.head())), (11, current.clone()));
        assert!(rejected() > 0);
    }
}

#[test]
fn earlier_manifest_is_rejected() {
    let names = Names::for_test("manifest");
    let image = image(10);
    publish(&names, &image, 0);
    let before = raw(&names.manifest(0));
    publish(&names, &image.at_version(20), 0);
    overwrite(&names.manifest(0), &before);
    let mut view = SnapshotView::new(names, CAPACITY);
    view.tick(NOW);
    assert!(view.open(NOW, None).is_none() && view.needs_image() && rejected() > 0);
}

#[test]
fn view_with_room_for_one_segment_finds_every_key_and_no_stale_one() {
    let names = Names::for_test("small");
    let mut image = image(10);
    publish(&names, &image, 0);
    let mut view = SnapshotView::new(names.clone(), 1);
    view.tick(NOW);
    assert!((0..2_000).all(|number| !is_revoked(&mut view, number)));
    let segment = revoke(&names, &mut image, 1_500);
    view.refresh_segments(10, 11, &[segment]);
    assert!((0..2_000).all(|number| is_revoked(&mut view, number) == (number == 1_500)));
}

#[test]
fn snapshot_without_recent_confirmation_is_not_used() {
    let names = Names::for_test("old");
    publish(&names, &image(10), 0);
    let mut view = SnapshotView::new(names, CAPACITY);
    let later = MonotonicNanos(NOW.0 + 31_000_000_000);
    assert!(view.open(later, Some(Duration::from_secs(30))).is_none());
    assert!(view.open(later, Some(Duration::from_secs(32))).is_some());
    assert!(view.open(later, None).is_some());
}
