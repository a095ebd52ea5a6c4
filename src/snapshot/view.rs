//! This VM's view of the snapshot.
//!
//! The segments are in shared data. A VM copies and checks a segment when a request first needs it, and drops its copy
//! when the segment changes. So a VM starts without the network, a change costs only the segments that it touches, and
//! enforcing a new version means dropping copies. A VM holds as many copies of a large image as fit ([`SegmentCache`]).

use std::collections::BTreeSet;
use std::time::Duration;

use omniflow_policy::authorize::CredentialView;
use omniflow_policy::digest::Digest;
use omniflow_policy::policy::Policy;
use omniflow_policy::snapshot::{Manifest, Segment};
use omniflow_policy::time::MonotonicNanos;

use super::segment_cache::SegmentCache;
use crate::host::{self, LogLevel};
use crate::workers::shared_data::{self, Head, Names};

/// If the last tick is older than this, the VM may have missed a change.
const OVERDUE: Duration = Duration::from_secs(1);

/// The snapshot as this VM enforces it.
pub(crate) struct SnapshotView {
    names: Names,
    current: Option<Current>,
    refreshed: MonotonicNanos,
    /// Room for copies of segments in bytes.
    capacity: usize,
    changes: SnapshotChanges,
}

/// What has changed in a snapshot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SnapshotChanges {
    /// Any segment may have changed.
    pub(crate) all: bool,
    /// The segments that have changed.
    pub(crate) segments: BTreeSet<u32>,
}

struct Current {
    head: Head,
    manifest: Manifest,
    policy: Policy,
    segments: SegmentCache,
}

/// The segments, for one look-up.
pub(crate) struct Segments<'s> {
    names: &'s Names,
    slot: u8,
    manifest: &'s Manifest,
    segments: &'s mut SegmentCache,
}

/// A segment that should be in shared data is missing or damaged.
pub(crate) struct SegmentUnavailable;

// === impl SnapshotView ===

impl SnapshotView {
    /// A view of the snapshot under these names, with room for `capacity` bytes of segments.
    pub(crate) fn new(names: Names, capacity: usize) -> Self {
        Self {
            names,
            current: None,
            refreshed: MonotonicNanos(0),
            capacity,
            changes: SnapshotChanges::default(),
        }
    }

    /// The version that this VM enforces. 0 without a snapshot.
    pub(crate) fn version(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.head.version)
    }

    /// Adopts the head in shared data, at a tick.
    pub(crate) fn tick(&mut self, now: MonotonicNanos) {
        self.refreshed = now;
        self.refresh();
    }

    /// Adopts the head in shared data. If its version is different, all copies are dropped.
    pub(crate) fn refresh(&mut self) {
        self.advance(None);
    }

    /// Adopts the head in shared data. If this VM is at `from` and the head at `to`, only the copies of `segments` are dropped.
    /// A VM that receives the message late, when the next version has arrived, drops all copies.
    pub(crate) fn refresh_segments(&mut self, from: u64, to: u64, segments: &[u32]) {
        self.advance(Some((from, to, segments)));
    }

    fn advance(&mut self, change: Option<(u64, u64, &[u32])>) {
        let head = shared_data::get_as::<Head>(&self.names.head()).value.filter(|head| head.version != 0);
        let Some(head) = head else { return };
        let same_manifest = self.current.as_ref().is_some_and(|current| {
            current.head.slot == head.slot && current.head.manifest_version == head.manifest_version
        });
        if !same_manifest && !self.load_manifest(head) {
            return;
        }
        let Some(current) = &mut self.current else { return };
        if current.head.version != head.version {
            match change {
                Some((from, to, changed)) if from == current.head.version && to == head.version => {
                    changed.iter().for_each(|index| current.segments.remove(*index));
                    self.changes.segments.extend(changed);
                }
                _ => {
                    current.segments.clear();
                    self.changes.all = true;
                }
            }
        }
        current.head = head;
    }

    /// Loads manifest and policy. Copies of segments stay if they belong to the same image.
    fn load_manifest(&mut self, head: Head) -> bool {
        let Some(bytes) = shared_data::get(&self.names.manifest(head.slot)).value else {
            return false;
        };
        let manifest = match Manifest::decode(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                host::log(LogLevel::Error, &format!("invalid manifest in shared data: {error}"));
                return false;
            }
        };
        let policy = match manifest.policy() {
            Ok(policy) => policy,
            Err(error) => {
                host::log(LogLevel::Error, &format!("invalid policy in shared data: {error}"));
                return false;
            }
        };
        match &mut self.current {
            Some(current)
                if current.head.slot == head.slot
                    && current.manifest.segment_bits == manifest.segment_bits =>
            {
                current.manifest = manifest;
                current.policy = policy;
            }
            current => {
                let segments = SegmentCache::new(manifest.segment_count(), self.capacity);
                // Version 0 until the client adopts the head, so that it drops the right copies.
                *current = Some(Current { head: Head { version: 0, ..head }, manifest, policy, segments });
            }
        }
        true
    }

    /// Policy and segments for one decision. `None` without a snapshot, or if its last confirmation is older than `max_age`.
    pub(crate) fn open(
        &mut self,
        now: MonotonicNanos,
        max_age: Option<Duration>,
    ) -> Option<(&Policy, Segments<'_>)> {
        // A VM that was just reloaded may get a request before its first tick. One whose thread was blocked may get requests
        // before its next tick, while the others no longer count it as present.
        if self.current.is_none() || now.since(self.refreshed) > OVERDUE {
            self.refresh();
        }
        let current = self.current.as_mut()?;
        if max_age.is_some_and(|max| now.since(MonotonicNanos(current.head.confirmed)) > max) {
            return None;
        }
        let segments = Segments {
            names: &self.names,
            slot: current.head.slot,
            manifest: &current.manifest,
            segments: &mut current.segments,
        };
        Some((&current.policy, segments))
    }
}

// === changes ===

impl SnapshotView {
    /// What has changed since the last call of this function.
    pub(crate) fn take_changes(&mut self) -> SnapshotChanges {
        std::mem::take(&mut self.changes)
    }

    /// The segment of a digest. `None` without a snapshot.
    pub(crate) fn segment_of(&self, digest: &Digest) -> Option<u32> {
        Some(self.current.as_ref()?.manifest.segment_of(digest))
    }

    /// Looks up a digest. If its segment is unavailable, the segment counts as changed, so that it is looked up again.
    pub(crate) fn find(&mut self, digest: &Digest) -> Result<Option<CredentialView<'_>>, SegmentUnavailable> {
        let Some(current) = &mut self.current else { return Err(SegmentUnavailable) };
        let index = current.manifest.segment_of(digest);
        let segments = Segments {
            names: &self.names,
            slot: current.head.slot,
            manifest: &current.manifest,
            segments: &mut current.segments,
        };
        segments.find(digest).inspect_err(|_| {
            self.changes.segments.insert(index);
        })
    }
}

// === impl Segments ===

impl<'s> Segments<'s> {
    /// Whether a digest is that of a key.
    pub(crate) fn has(&mut self, digest: &Digest) -> Result<bool, SegmentUnavailable> {
        let Self { names, slot, manifest, segments } = self;
        let again = Segments { names, slot: *slot, manifest, segments };
        Ok(again.find(digest)?.is_some())
    }

    /// Looks up a digest. Loads its segment if this VM has no copy.
    pub(crate) fn find(self, digest: &Digest) -> Result<Option<CredentialView<'s>>, SegmentUnavailable> {
        let Self { names, slot, manifest, segments } = self;
        let index = manifest.segment_of(digest);
        let segment = segments.get(index, || {
            let bytes = shared_data::get(&names.segment(slot, index)).value.ok_or(SegmentUnavailable)?;
            Segment::parse(bytes, manifest.segment_id(index)).map_err(|error| {
                host::log(LogLevel::Error, &format!("invalid segment {index} in shared data: {error}"));
                SegmentUnavailable
            })
        })?;
        Ok(segment.ok_or(SegmentUnavailable)?.find(digest))
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::address::Allowlist;
    use omniflow_policy::gateway::Incarnation;
    use omniflow_policy::key::Environment;
    use omniflow_policy::limit::RateLimit;
    use omniflow_policy::policy::PolicyDocument;
    use omniflow_policy::scope::ScopeSet;
    use omniflow_policy::snapshot::{Change, Credential, Delta, Image};
    use uuid::Uuid;

    use super::*;

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

    fn write(name: &str, value: &[u8]) {
        assert_eq!(shared_data::swap(name, &shared_data::get(name), value), Ok(()));
    }

    /// Writes an image into shared data as a leader does: segments, manifest, head.
    fn publish(names: &Names, image: &Image, slot: u8) {
        for (index, segment) in (0..).zip(image.segments()) {
            write(&names.segment(slot, index), segment);
        }
        write(&names.manifest(slot), &image.manifest().encode());
        let version = image.manifest().version;
        let head =
            Head { process: Incarnation(1), slot, version, manifest_version: version, confirmed: NOW.0 };
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
        let read = shared_data::get_as::<Head>(&names.head());
        let head = read.value.unwrap_or_else(|| panic!("no head"));
        assert_eq!(shared_data::swap_as(&names.head(), &read, &Head { version: from + 1, ..head }), Ok(()));
        segment
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
        let names = Names::new("late");
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
        let names = Names::new("some");
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
        let names = Names::new("no-message");
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
        let names = Names::new("slots");
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
        let names = Names::new("damaged");
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

    #[test]
    fn view_with_room_for_one_segment_finds_every_key_and_no_stale_one() {
        let names = Names::new("small");
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
        let names = Names::new("old");
        publish(&names, &image(10), 0);
        let mut view = SnapshotView::new(names, CAPACITY);
        let later = MonotonicNanos(NOW.0 + 31_000_000_000);
        assert!(view.open(later, Some(Duration::from_secs(30))).is_none());
        assert!(view.open(later, Some(Duration::from_secs(32))).is_some());
        assert!(view.open(later, None).is_some());
    }
}
