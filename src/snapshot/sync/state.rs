//! The state of the leader's work between two callbacks.

use std::collections::VecDeque;

use omniflow_policy::snapshot::{Change, Delta, MAX_SEGMENT_BITS, Manifest, SegmentHasher};
use omniflow_policy::time::MonotonicNanos;

use crate::control_plane::CallToken;
use crate::workers::shared_data::Head;

/// The maximum number of segments of a slot.
pub(super) const MAX_SEGMENTS: u32 = 1 << MAX_SEGMENT_BITS;

/// What the leader is doing.
pub(super) enum State {
    /// No call is in flight. A poll follows at `until`.
    Resting { until: MonotonicNanos },
    /// The control plane holds a poll.
    Polling { call: CallToken, since: MonotonicNanos },
    /// A chunk of a full image is being fetched.
    Fetching { call: CallToken, image: ImageTransfer },
    /// A chunk of it is being written.
    Storing { image: ImageTransfer, segments: VecDeque<Vec<u8>> },
    /// A delta is being applied.
    Applying { delta: DeltaWork },
}

/// An image that is being fetched.
pub(super) struct ImageTransfer {
    pub(super) manifest: Manifest,
    /// The first version with which requests may be decided.
    pub(super) serves_from: u64,
    pub(super) slot: u8,
    pub(super) next_chunk: u32,
    pub(super) next_segment: u32,
    pub(super) sum: SegmentHasher,
}

/// A delta that is being applied.
pub(super) struct DeltaWork {
    pub(super) manifest: Manifest,
    pub(super) head: Head,
    pub(super) delta: Delta,
    pub(super) remaining: VecDeque<(u32, Vec<Change>)>,
    pub(super) touched: Vec<u32>,
}

/// A version whose segments are in shared data.
pub(super) struct NextVersion {
    pub(super) head: Head,
    /// The manifest, if it differs from the current one.
    pub(super) manifest: Option<Manifest>,
    /// After a delta: the version before it, and the segments that differ. `None` after a full image.
    pub(super) segments: Option<(u64, Vec<u32>)>,
}
