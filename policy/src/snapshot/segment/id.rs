//! The segment of a digest.

use uuid::Uuid;

use crate::digest::Digest;

/// Maximum number of leading bits of a digest that are a segment's index: 65,536 segments.
pub const MAX_SEGMENT_BITS: u8 = 16;

/// Identifies a segment of an installation's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentId {
    /// The installation.
    pub installation: Uuid,
    /// Number of leading bits of a digest that are the segment's index.
    pub bits: u8,
    /// The segment's index.
    pub index: u32,
}

/// The segment index of a digest: its first `bits` bits.
pub(crate) fn segment_index(digest: &Digest, bits: u8) -> u32 {
    let [first, second, ..] = *digest.as_bytes();
    u32::from(u16::from_be_bytes([first, second])) >> (16 - u32::from(bits.min(MAX_SEGMENT_BITS)))
}
