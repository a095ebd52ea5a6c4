//! Fetching a full image: chunk by chunk into the unused slot, which takes over when it is complete.

use std::collections::VecDeque;

use omniflow_policy::gateway::chunk_path;
use omniflow_policy::snapshot::{self, Manifest, Segment, SegmentHasher, SnapshotError};

use super::state::{ImageTransfer, MAX_SEGMENTS, NextVersion, State};
use super::{CALL_TIMEOUT, Leader, REPAIR_INTERVAL, Step, SyncContext, SyncOutcome};
use crate::clock;
use crate::control_plane::{self, Response};
use crate::workers::membership::Membership;
use crate::workers::shared_data::{self, Head};

/// The value of a cleared entry. Shared data has no delete, and an empty entry counts as absent.
const CLEARED: &[u8] = &[];

impl Leader {
    /// Begins to fetch an image that was offered when `published` was the published version.
    pub(super) fn begin_image(
        &mut self,
        context: &SyncContext<'_>,
        body: &[u8],
        published: u64,
    ) -> SyncOutcome {
        let manifest = match self.check_manifest(body) {
            Ok(manifest) => manifest,
            Err(error) => return self.reject(context, error),
        };
        let head = self.head().filter(|head| head.version != 0);
        // A VM that does not enforce the last image yet is still reading the other slot.
        if head.as_ref().is_some_and(|head| !context.membership.all_enforce(head.version)) {
            return self.fail(
                context,
                "download of the image delayed until all VMs enforce the previous image",
                None,
            );
        }
        // If the transfer is aborted, its segments have to be cleared.
        self.clearing = Some(MAX_SEGMENTS);
        // A gateway that serves requests already continues with a later image than its own. One that starts must not accept what was
        // revoked before it first asked: nothing waited for this gateway then.
        let is_serving =
            head.as_ref().is_some_and(|head| head.is_served(context.now, context.config.max_snapshot_age));
        let serves_from = if is_serving { 0 } else { published };
        let slot = head.map_or(0, |head| other_slot(head.slot));
        self.fetch(
            context,
            ImageTransfer {
                manifest,
                serves_from,
                slot,
                next_chunk: 0,
                next_segment: 0,
                sum: SegmentHasher::default(),
            },
        );
        SyncOutcome::default()
    }

    /// Decodes a manifest, and checks that it belongs to the same installation and is newer than the current one.
    fn check_manifest(&self, body: &[u8]) -> Result<Manifest, SnapshotError> {
        let manifest = Manifest::decode(body)?;
        manifest.policy().map_err(|_| SnapshotError::Policy)?;
        let Some(head) = self.head().filter(|head| head.version != 0) else { return Ok(manifest) };
        if self.installation(&head).is_some_and(|installation| installation != manifest.installation) {
            return Err(SnapshotError::OtherInstallation);
        }
        if self.may_follow(manifest.version, head.version) {
            Ok(manifest)
        } else {
            Err(SnapshotError::Mismatch)
        }
    }

    pub(super) fn fetch(&mut self, context: &SyncContext<'_>, image: ImageTransfer) {
        let path = chunk_path(image.manifest.version, image.next_chunk);
        match control_plane::get(context.config, &path, CALL_TIMEOUT) {
            Ok(call) => self.state = State::Fetching { call, image },
            Err(error) => self.dispatch_failed(context, error),
        }
    }

    pub(super) fn on_chunk(
        &mut self,
        context: &SyncContext<'_>,
        mut image: ImageTransfer,
        response: Option<Response>,
    ) -> SyncOutcome {
        let Some(response) = response else {
            return self.fail(context, "the control plane did not send the image", None);
        };
        if response.status != 200 {
            return self.reject_status(context, &response);
        }
        match snapshot::split_chunk(&response.body) {
            Ok(segments) if !segments.is_empty() => {
                image.next_chunk += 1;
                let segments = segments.into_iter().map(<[u8]>::to_vec).collect();
                self.store(context, image, segments)
            }
            Ok(_) => self.reject(context, SnapshotError::Damaged),
            Err(error) => self.reject(context, error),
        }
    }

    pub(super) fn store(
        &mut self,
        context: &SyncContext<'_>,
        mut image: ImageTransfer,
        mut segments: VecDeque<Vec<u8>>,
    ) -> SyncOutcome {
        let mut step = Step::begin();
        while step.has_time()
            && let Some(bytes) = segments.pop_front()
        {
            let name = self.names.segment(image.slot, image.next_segment);
            let read = shared_data::get(&name);
            let newer = read.value.as_deref().and_then(snapshot::unchecked_version);
            let segment = match Segment::parse(bytes, image.manifest.segment_id(image.next_segment)) {
                Ok(segment) => segment,
                Err(error) => return self.reject(context, error),
            };
            image.sum.add(&segment);
            // Another leader is ahead: this one has lost the lease but has not noticed yet.
            if newer.is_some_and(|version| version > image.manifest.version)
                || shared_data::swap(&name, &read, segment.bytes()).is_err()
            {
                return self.reject(context, SnapshotError::Mismatch);
            }
            image.next_segment += 1;
        }
        if !segments.is_empty() {
            self.state = State::Storing { image, segments };
            return SyncOutcome { has_more: true, ..SyncOutcome::default() };
        }
        if image.next_segment < image.manifest.segment_count() {
            self.fetch(context, image);
            return SyncOutcome::default();
        }
        if image.sum.finish() != image.manifest.segments_digest {
            return self.reject(context, SnapshotError::Mismatch);
        }
        let version = image.manifest.version;
        let head = Head {
            process: context.membership.process(),
            slot: image.slot,
            version,
            manifest_version: version,
            confirmed: context.now.0,
            serves_from: image.serves_from,
            recent: Vec::new(),
        };
        self.take_over(context, NextVersion { head, manifest: Some(image.manifest), segments: None })
    }

    /// Frees the memory of the unused slot once no VM reads it any more. Returns whether the work continues as soon as the
    /// thread is free.
    pub(super) fn clear_unused_slot(&mut self, membership: &Membership) -> bool {
        if matches!(self.state, State::Fetching { .. } | State::Storing { .. }) {
            return false;
        }
        let (Some(mut remaining), Some(head)) = (self.clearing, self.head()) else { return false };
        // After a repair both slots have the same version: a VM may not have left the other one yet.
        let is_repaired = self.repaired.is_some_and(|at| clock::monotonic().since(at) < REPAIR_INTERVAL);
        if is_repaired || !membership.all_enforce(head.version) {
            return false;
        }
        let mut step = Step::begin();
        while remaining > 0 && step.has_time() {
            let name = self.names.segment(other_slot(head.slot), remaining - 1);
            let read = shared_data::get(&name);
            if read.value.is_some() {
                // If this thread was blocked, another VM may have the lease and fill the slot.
                if !membership.acquire_lease(clock::monotonic()) {
                    return false;
                }
                // A VM that wrote it in the meantime needs it.
                let _ = shared_data::swap(&name, &read, CLEARED);
            }
            remaining -= 1;
        }
        self.clearing = (remaining > 0).then_some(remaining);
        remaining > 0
    }
}

fn other_slot(slot: u8) -> u8 {
    1 - slot.min(1)
}

#[cfg(test)]
mod tests {
    use omniflow_policy::gateway::Incarnation;
    use omniflow_policy::policy::PolicyDocument;
    use omniflow_policy::snapshot::Image;
    use omniflow_policy::time::UnixMillis;
    use uuid::Uuid;

    use super::*;
    use crate::workers::member_table::CallProgress;
    use crate::workers::shared_data::Names;

    const CLUSTER: &str = "clearing";

    /// An Envoy of one VM with a snapshot in slot 0 and obsolete segments in slot 1.
    fn envoy_with_obsolete_segments() -> Membership {
        let names = Names::for_test(CLUSTER);
        let mut membership = Membership::for_test(CLUSTER, 1);
        let head = Head {
            process: membership.process(),
            slot: 0,
            version: 7,
            manifest_version: 7,
            confirmed: 0,
            serves_from: 0,
            recent: Vec::new(),
        };
        assert_eq!(
            shared_data::swap_as(&names.head(), &shared_data::get_as::<Head>(&names.head()), &head),
            Ok(())
        );
        for (slot, segment) in [(0, 0), (1, 0), (1, MAX_SEGMENTS - 1)] {
            let name = names.segment(slot, segment);
            assert_eq!(shared_data::swap(&name, &shared_data::get(&name), b"a segment"), Ok(()));
        }
        let progress = CallProgress { begun: 0, acknowledged: 0, at: UnixMillis(5) };
        membership.heartbeat(clock::monotonic(), 7, false, progress);
        membership
    }

    fn is_present(slot: u8, segment: u32) -> bool {
        shared_data::get(&Names::for_test(CLUSTER).segment(slot, segment)).value.is_some()
    }

    #[test]
    fn new_leader_clears_obsolete_segments() {
        let membership = envoy_with_obsolete_segments();
        let mut leader = Leader::new(Names::for_test(CLUSTER));
        while leader.clear_unused_slot(&membership) {}
        assert!(!is_present(1, 0) && !is_present(1, MAX_SEGMENTS - 1));
        assert!(is_present(0, 0), "of the slot in use");
    }

    #[test]
    fn version_that_the_control_plane_confirms_is_served() {
        let names = Names::for_test("confirmed");
        let head = Head {
            process: Incarnation(1),
            slot: 0,
            version: 7,
            manifest_version: 7,
            confirmed: 0,
            // Published when the process started, and lost when the database was replaced by an older copy.
            serves_from: 9,
            recent: Vec::new(),
        };
        let is_served = || {
            let head = shared_data::get_as::<Head>(&names.head()).value;
            head.is_some_and(|head| head.is_served(clock::monotonic(), None))
        };
        assert_eq!(
            shared_data::swap_as(&names.head(), &shared_data::get_as::<Head>(&names.head()), &head),
            Ok(())
        );
        assert!(!is_served());
        Leader::new(names.clone()).serve_current_version();
        assert!(is_served());
    }

    #[test]
    fn slot_of_an_image_transfer_is_cleared_only_after_it_was_aborted() {
        let membership = envoy_with_obsolete_segments();
        let mut leader = Leader::new(Names::for_test(CLUSTER));
        let manifest = match Image::build(Uuid::from_u128(1), 8, &PolicyDocument::default(), Vec::new()) {
            Ok(image) => image.manifest(),
            Err(error) => panic!("{error}"),
        };
        let image = ImageTransfer {
            manifest,
            serves_from: 0,
            slot: 1,
            next_chunk: 1,
            next_segment: 1,
            sum: SegmentHasher::default(),
        };
        leader.state = State::Storing { image, segments: VecDeque::new() };
        assert!(!leader.clear_unused_slot(&membership) && is_present(1, 0));
        leader.state = State::Resting { until: clock::monotonic() };
        while leader.clear_unused_slot(&membership) {}
        assert!(!is_present(1, 0) && !is_present(1, MAX_SEGMENTS - 1));
    }
}
