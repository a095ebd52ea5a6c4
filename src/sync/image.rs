//! Taking a full image: chunk by chunk into the slot that is not in use, which takes over when it is whole.

use std::collections::VecDeque;

use omniflow_policy::gateway::chunk_path;
use omniflow_policy::snapshot::{self, MAX_SEGMENT_BITS, Manifest, Segment, SegmentHasher, SnapshotError};

use super::{CALL_TIMEOUT, Context, Leader, Progress, State, Step, TakeOver};
use crate::clock;
use crate::control_plane::{self, Answer};
use crate::peers::Peers;
use crate::shared::{self, Head};

/// Shared data has no delete; an empty entry counts as absent.
const CLEARED: &[u8] = &[];

/// Pages that a slot can have.
pub(super) const MOST_PAGES: u32 = 1 << MAX_SEGMENT_BITS;

/// An image that is on its way.
pub(super) struct ImageTransfer {
    manifest: Manifest,
    slot: u8,
    next_chunk: u32,
    next_page: u32,
    sum: SegmentHasher,
}

impl Leader {
    pub(super) fn begin_image(&mut self, context: &Context<'_>, body: &[u8]) -> Progress {
        let manifest = match self.acceptable(body) {
            Ok(manifest) => manifest,
            Err(error) => return self.reject(context, error),
        };
        let head = self.head().filter(|head| head.version != 0);
        // A VM that has not heard of the last image yet still reads the other slot.
        if head.is_some_and(|head| !context.peers.all_enforce(head.version)) {
            return self.fail(context, "a full image waits for a VM that is behind", None);
        }
        // Should it be given up half way, its pages are of no use.
        self.clearing = Some(MOST_PAGES);
        let slot = head.map_or(0, |head| other_slot(head.slot));
        self.fetch(
            context,
            ImageTransfer { manifest, slot, next_chunk: 0, next_page: 0, sum: SegmentHasher::default() },
        );
        Progress::default()
    }

    /// A manifest that this gateway may follow: of the same installation, and later than what it has.
    fn acceptable(&self, body: &[u8]) -> Result<Manifest, SnapshotError> {
        let manifest = Manifest::decode(body)?;
        manifest.policy().map_err(|_| SnapshotError::Policy)?;
        let Some(head) = self.head().filter(|head| head.version != 0) else { return Ok(manifest) };
        if self.installation(head).is_some_and(|installation| installation != manifest.installation) {
            return Err(SnapshotError::OtherInstallation);
        }
        if manifest.version <= head.version { Err(SnapshotError::Mismatch) } else { Ok(manifest) }
    }

    pub(super) fn fetch(&mut self, context: &Context<'_>, image: ImageTransfer) {
        let path = chunk_path(image.manifest.version, image.next_chunk);
        match control_plane::get(context.config, &path, CALL_TIMEOUT) {
            Ok(call) => self.state = State::Fetching { call, image },
            Err(error) => self.not_sent(context, error),
        }
    }

    pub(super) fn fetched(
        &mut self,
        context: &Context<'_>,
        mut image: ImageTransfer,
        answer: Option<Answer>,
    ) -> Progress {
        let Some(answer) = answer else {
            return self.fail(context, "the control plane did not send the image", None);
        };
        if answer.status != 200 {
            return self.refused(context, &answer);
        }
        match snapshot::split_chunk(&answer.body) {
            Ok(pages) if !pages.is_empty() => {
                image.next_chunk += 1;
                let pages = pages.into_iter().map(<[u8]>::to_vec).collect();
                self.store(context, image, pages)
            }
            Ok(_) => self.reject(context, SnapshotError::Damaged),
            Err(error) => self.reject(context, error),
        }
    }

    pub(super) fn store(
        &mut self,
        context: &Context<'_>,
        mut image: ImageTransfer,
        mut pages: VecDeque<Vec<u8>>,
    ) -> Progress {
        let mut step = Step::begin();
        while step.goes_on()
            && let Some(bytes) = pages.pop_front()
        {
            let name = self.names.page(image.slot, image.next_page);
            let read = shared::get(&name);
            let newer = read.value.as_deref().and_then(snapshot::unchecked_version);
            let page = match Segment::parse(bytes, image.manifest.segment_id(image.next_page)) {
                Ok(page) => page,
                Err(error) => return self.reject(context, error),
            };
            image.sum.add(&page);
            // Another leader is further: this one was replaced and does not know it yet.
            if newer.is_some_and(|version| version > image.manifest.version)
                || shared::swap(&name, &read, page.bytes()).is_err()
            {
                return self.reject(context, SnapshotError::Mismatch);
            }
            image.next_page += 1;
        }
        if !pages.is_empty() {
            self.state = State::Storing { image, pages };
            return Progress { more: true, ..Progress::default() };
        }
        if image.next_page < image.manifest.segment_count() {
            self.fetch(context, image);
            return Progress::default();
        }
        if image.sum.finish() != image.manifest.segments_digest {
            return self.reject(context, SnapshotError::Mismatch);
        }
        let version = image.manifest.version;
        let next = Head {
            process: context.peers.process(),
            slot: image.slot,
            version,
            manifest_version: version,
            confirmed: context.now.0,
        };
        self.take_over(context, TakeOver { next, manifest: Some(image.manifest), pages: None })
    }

    /// Gives back the memory of the slot that is no longer in use, once no VM reads it any more. Tells whether there is
    /// more to do as soon as the thread is free.
    pub(super) fn clear_old_slot(&mut self, peers: &Peers) -> bool {
        if matches!(self.state, State::Fetching { .. } | State::Storing { .. }) {
            return false;
        }
        let (Some(mut left), Some(head)) = (self.clearing, self.head()) else { return false };
        if !peers.all_enforce(head.version) {
            return false;
        }
        let mut step = Step::begin();
        while left > 0 && step.goes_on() {
            let name = self.names.page(other_slot(head.slot), left - 1);
            let read = shared::get(&name);
            if read.value.is_some() {
                // Held up in here, this VM may have lost the lead to one that fills the slot.
                if !peers.lead(clock::monotonic()) {
                    return false;
                }
                // Whoever has written it meanwhile needs it.
                let _ = shared::swap(&name, &read, CLEARED);
            }
            left -= 1;
        }
        self.clearing = (left > 0).then_some(left);
        left > 0
    }
}

fn other_slot(slot: u8) -> u8 {
    1 - slot.min(1)
}

#[cfg(test)]
mod tests {
    use omniflow_policy::policy::PolicyDocument;
    use omniflow_policy::snapshot::Image;
    use omniflow_policy::time::UnixMillis;
    use uuid::Uuid;

    use super::*;
    use crate::peers::Progress as CallProgress;
    use crate::shared::Names;

    const CLUSTER: &str = "clearing";

    /// An Envoy of one VM with a snapshot in slot 0, and pages in slot 1 that are of no use any more.
    fn with_a_full_slot() -> Peers {
        let names = Names::new(CLUSTER);
        let mut peers = Peers::alone(CLUSTER, 1);
        let head = Head { process: peers.process(), slot: 0, version: 7, manifest_version: 7, confirmed: 0 };
        assert_eq!(shared::swap_as(&names.head(), &shared::get_as::<Head>(&names.head()), &head), Ok(()));
        for (slot, page) in [(0, 0), (1, 0), (1, MOST_PAGES - 1)] {
            let name = names.page(slot, page);
            assert_eq!(shared::swap(&name, &shared::get(&name), b"a page"), Ok(()));
        }
        let progress = CallProgress { begun: 0, acknowledged: 0, at: UnixMillis(5) };
        peers.beat(clock::monotonic(), 7, progress);
        peers
    }

    fn is_there(slot: u8, page: u32) -> bool {
        shared::get(&Names::new(CLUSTER).page(slot, page)).value.is_some()
    }

    #[test]
    fn a_new_leader_clears_what_the_one_before_has_left() {
        let peers = with_a_full_slot();
        let mut leader = Leader::new(Names::new(CLUSTER));
        while leader.clear_old_slot(&peers) {}
        assert!(!is_there(1, 0) && !is_there(1, MOST_PAGES - 1));
        assert!(is_there(0, 0), "of the slot that is in use");
    }

    #[test]
    fn the_slot_of_an_image_that_is_on_its_way_is_left_alone_until_it_is_given_up() {
        let peers = with_a_full_slot();
        let mut leader = Leader::new(Names::new(CLUSTER));
        let manifest = match Image::build(Uuid::from_u128(1), 8, &PolicyDocument::default(), Vec::new()) {
            Ok(image) => image.manifest(),
            Err(error) => panic!("{error}"),
        };
        let image =
            ImageTransfer { manifest, slot: 1, next_chunk: 1, next_page: 1, sum: SegmentHasher::default() };
        leader.state = State::Storing { image, pages: VecDeque::new() };
        assert!(!leader.clear_old_slot(&peers) && is_there(1, 0));
        leader.state = State::Resting { until: clock::monotonic() };
        while leader.clear_old_slot(&peers) {}
        assert!(!is_there(1, 0) && !is_there(1, MOST_PAGES - 1));
    }
}
