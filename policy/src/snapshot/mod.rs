//! The binary format in which gateways receive keys.
//!
//! An [`Image`] is all keys at one version: a [`Manifest`] and [`Segment`]s. A segment contains the
//! credentials whose digests start with the segment's index, sorted, and is read in place. A [`Delta`] takes
//! a gateway from one version to a later one and contains only the changed credentials; applied to an image,
//! it yields the same records as a new image. All numbers are little-endian. Every part contains a CRC-32
//! over the rest of it, which detects every error of up to four consecutive bytes.

mod builder;
mod credential;
mod delta;
mod framing;
mod image;
mod manifest;
mod segment;

pub use self::builder::{ImageBuilder, ProfileNumber, ProfiledCredential};
pub use self::credential::Credential;
pub use self::delta::{Change, Delta, MAX_CHANGES_PER_DELTA};
pub use self::framing::{FORMAT, SnapshotError};
pub use self::image::{Image, split_chunk};
pub use self::manifest::{Manifest, SEGMENTS_PER_CHUNK, SegmentHasher};
pub use self::segment::id::{MAX_SEGMENT_BITS, SegmentId};
pub use self::segment::{Segment, unchecked_version};

#[cfg(test)]
mod tests;
