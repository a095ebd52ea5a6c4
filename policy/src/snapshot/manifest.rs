//! The manifest of an image.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::framing::{SnapshotError, open, seal};
use super::segment::Segment;
use super::segment::id::{MAX_SEGMENT_BITS, SegmentId, segment_index};
use crate::digest::{Digest, DigestStream};
use crate::policy::{Policy, PolicyDocument, PolicyError};

const MAGIC: [u8; 4] = *b"OMFM";
/// Number of segments that a gateway fetches in one request.
pub const SEGMENTS_PER_CHUNK: u32 = 64;
/// Target number of records per segment, which is 5 to 8 KB: small enough to be rebuilt for each change and
/// to be copied for one key, large enough that the headers do not matter.
const RECORDS_PER_SEGMENT: usize = 64;

/// The manifest of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The installation.
    pub installation: Uuid,
    /// The version.
    pub version: u64,
    /// Number of leading bits of a digest that are its segment's index.
    pub segment_bits: u8,
    /// SHA-256 over the checksums of all segments, in order, which binds the segments to this image. See
    /// [`SegmentHasher`].
    pub segments_digest: Digest,
    /// The policy document in JSON. Compiling it is slow with many routes: see [`Manifest::policy`].
    pub policy: String,
}

impl Manifest {
    /// Encodes the manifest.
    pub fn encode(&self) -> Vec<u8> {
        // Encoding into memory cannot fail.
        seal(MAGIC, &postcard::to_allocvec(self).unwrap_or_default())
    }

    /// Decodes a whole manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let body = open(bytes, MAGIC)?;
        let (manifest, rest): (Self, _) =
            postcard::take_from_bytes(body).map_err(|_| SnapshotError::Damaged)?;
        if !rest.is_empty() || manifest.version == 0 || manifest.segment_bits > MAX_SEGMENT_BITS {
            return Err(SnapshotError::Damaged);
        }
        Ok(manifest)
    }

    /// Compiles the policy.
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        Policy::compile(PolicyDocument::from_json(self.policy.as_bytes())?)
    }

    /// The value of `segment_bits` for an image of `credentials` credentials.
    pub fn segment_bits_for(credentials: usize) -> u8 {
        let segments = credentials.div_ceil(RECORDS_PER_SEGMENT).max(1).next_power_of_two();
        u8::try_from(segments.trailing_zeros()).unwrap_or(MAX_SEGMENT_BITS).min(MAX_SEGMENT_BITS)
    }

    /// Number of segments.
    pub fn segment_count(&self) -> u32 {
        1 << self.segment_bits.min(MAX_SEGMENT_BITS)
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> u32 {
        self.segment_count().div_ceil(SEGMENTS_PER_CHUNK)
    }

    /// The index of the segment that contains a digest, if the image does.
    pub fn segment_of(&self, digest: &Digest) -> u32 {
        segment_index(digest, self.segment_bits)
    }

    /// The ID of a segment of this image.
    pub fn segment_id(&self, index: u32) -> SegmentId {
        SegmentId { installation: self.installation, bits: self.segment_bits, index }
    }
}

/// Computes [`Manifest::segments_digest`] incrementally.
#[derive(Clone, Default)]
pub struct SegmentHasher(DigestStream);

impl SegmentHasher {
    /// Adds the next segment.
    pub fn add<B: AsRef<[u8]>>(&mut self, segment: &Segment<B>) {
        self.0.update(&segment.checksum().to_le_bytes());
    }

    /// Returns the digest.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}
