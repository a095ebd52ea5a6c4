//! This VM's view of the snapshot.
//!
//! The segments are in shared data. A VM copies and checks a segment when a request first needs it, and drops its copy when the
//! segment changes. So a VM starts without the network, a change costs only the segments that it touches, and enforcing a new
//! version means dropping copies. A VM holds as many copies of a large image as fit ([`SegmentCache`]).
//!
//! Another plugin of the same proxy may overwrite shared data. What it writes has a wrong tag and counts as absent
//! ([`shared_data::get`]). What it writes back is recognized by its version: a head is never older than the previous one, and neither is a
//! segment that this VM has read or that the head lists as changed. Then the last head is restored, and a new image is requested in
//! place of a segment or a manifest ([`SnapshotView::needs_image`]).

use std::collections::{BTreeMap, BTreeSet};
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
    /// Whether the image lacks a valid manifest or segment.
    needs_image: bool,
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
    /// The lowest valid version of each segment of which a change is known.
    oldest: BTreeMap<u32, u64>,
}

impl Current {
    fn open<'s>(&'s mut self, names: &'s Names, needs_image: &'s mut bool) -> (&'s Policy, Segments<'s>) {
        let segments = Segments {
            names,
            slot: self.head.slot,
            manifest: &self.manifest,
            segments: &mut self.segments,
            oldest: &mut self.oldest,
            needs_image,
        };
        (&self.policy, segments)
    }
}

/// The segments, for one look-up.
pub(crate) struct Segments<'s> {
    names: &'s Names,
    slot: u8,
    manifest: &'s Manifest,
    segments: &'s mut SegmentCache,
    oldest: &'s mut BTreeMap<u32, u64>,
    needs_image: &'s mut bool,
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
            needs_image: false,
            changes: SnapshotChanges::default(),
        }
    }

    /// The version that this VM enforces. 0 without a snapshot.
    pub(crate) fn version(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.head.version)
    }

    /// Whether the image in shared data lacks a valid manifest or segment, so that a new one is needed.
    pub(crate) fn needs_image(&self) -> bool {
        self.needs_image
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
        let entry = self.names.head();
        let mut read = shared_data::get_as::<Head>(&entry);
        let head = read.value.take().filter(|head| head.version >= self.version().max(1));
        let Some(head) = head else {
            if let Some(current) = self.current.as_ref().filter(|current| current.head.version != 0) {
                // Another plugin has overwritten it or has written an earlier one back.
                shared_data::reject(entry.name());
                let _ = shared_data::swap_as(&entry, &read, &current.head);
            }
            return;
        };
        let same_manifest = self.current.as_ref().is_some_and(|current| {
            current.head.slot == head.slot && current.head.manifest_version == head.manifest_version
        });
        if !same_manifest && !self.load_manifest(&head) {
            self.needs_image = true;
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
        for (index, version) in &head.recent {
            let oldest = current.oldest.entry(*index).or_default();
            *oldest = (*oldest).max(*version);
        }
        current.head = head;
    }

    /// Loads manifest and policy. Copies of segments stay if they belong to the same image.
    fn load_manifest(&mut self, head: &Head) -> bool {
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
        if manifest.version < head.manifest_version {
            shared_data::reject(self.names.manifest(head.slot).name());
            return false;
        }
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
                let head = Head { version: 0, recent: Vec::new(), ..head.clone() };
                *current = Some(Current { head, manifest, policy, segments, oldest: BTreeMap::new() });
                self.needs_image = false;
            }
        }
        true
    }

    /// Policy and segments for one decision. `None` without a snapshot, if its last confirmation is older than `max_age`, or if it is
    /// earlier than the version that was published when this process started.
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
        if !current.head.is_served(now, max_age) {
            return None;
        }
        Some(current.open(&self.names, &mut self.needs_image))
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
        let (_, segments) = current.open(&self.names, &mut self.needs_image);
        segments.find(digest).inspect_err(|_| {
            self.changes.segments.insert(index);
        })
    }
}

// === impl Segments ===

impl<'s> Segments<'s> {
    /// Whether a digest is that of a key.
    pub(crate) fn has(&mut self, digest: &Digest) -> Result<bool, SegmentUnavailable> {
        let Self { names, slot, manifest, segments, oldest, needs_image } = self;
        let again = Segments { names, slot: *slot, manifest, segments, oldest, needs_image };
        Ok(again.find(digest)?.is_some())
    }

    /// Looks up a digest. Loads its segment if this VM has no copy.
    pub(crate) fn find(self, digest: &Digest) -> Result<Option<CredentialView<'s>>, SegmentUnavailable> {
        let Self { names, slot, manifest, segments, oldest, needs_image } = self;
        let index = manifest.segment_of(digest);
        let loaded = segments.get(index, || {
            let entry = names.segment(slot, index);
            let bytes = shared_data::get(&entry).value.ok_or(SegmentUnavailable)?;
            let segment = Segment::parse(bytes, manifest.segment_id(index)).map_err(|error| {
                host::log(LogLevel::Error, &format!("invalid segment {index} in shared data: {error}"));
                SegmentUnavailable
            })?;
            let oldest = oldest.entry(index).or_default();
            if segment.version() < *oldest {
                shared_data::reject(entry.name());
                return Err(SegmentUnavailable);
            }
            *oldest = segment.version();
            Ok(segment)
        });
        *needs_image |= loaded.is_err();
        Ok(loaded?.ok_or(SegmentUnavailable)?.find(digest))
    }
}

#[cfg(test)]
mod tests;
