//! An image: all keys at one version.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use uuid::Uuid;

use super::builder::ImageBuilder;
use super::credential::Credential;
use super::delta::Delta;
use super::framing::SnapshotError;
use super::manifest::{Manifest, SEGMENTS_PER_CHUNK, SegmentHasher};
use super::segment::Segment;
use super::segment::id::{MAX_SEGMENT_BITS, segment_index};
use super::segment::layout::{HEADER_SIZE, Header, MAGIC};
use crate::authorize::CredentialView;
use crate::digest::Digest;
use crate::policy::PolicyDocument;
use zerocopy::FromBytes;

/// All keys at one version. Images of successive versions share the chunks and segments that did not change,
/// so that a change only costs the segments it touches, and keeping an earlier image while gateways fetch it
/// is cheap.
#[derive(Clone)]
pub struct Image {
    installation: Uuid,
    version: u64,
    segment_bits: u8,
    policy: Arc<str>,
    chunks: Vec<Arc<Chunk>>,
    credentials: usize,
}

/// The segments that a gateway fetches in one request.
type Chunk = Vec<Arc<Segment<Vec<u8>>>>;

impl Image {
    /// Builds an image. The same credentials yield the same bytes, in whatever order they are given.
    pub fn build(
        installation: Uuid,
        version: u64,
        policy: &PolicyDocument,
        credentials: Vec<Credential>,
    ) -> Result<Self, SnapshotError> {
        let mut builder = ImageBuilder::new(credentials.len());
        for credential in &credentials {
            let (scopes, networks) = (credential.scopes.joined(), credential.allowlist.to_bytes());
            builder.add_view(credential.digest, &credential.view(&scopes, &networks))?;
        }
        let segments = ImageBuilder::segments(&[builder], installation, version, 0..u32::MAX)?;
        Self::from_segments(installation, version, policy.to_json().into(), segments)
    }

    /// Builds an image from all its segments in order, as returned by [`ImageBuilder::segments`]. `policy` is
    /// the document in JSON.
    pub fn from_segments(
        installation: Uuid,
        version: u64,
        policy: Arc<str>,
        segments: Vec<Segment<Vec<u8>>>,
    ) -> Result<Self, SnapshotError> {
        let segment_bits = u8::try_from(segments.len().trailing_zeros()).unwrap_or(MAX_SEGMENT_BITS);
        if segment_bits > MAX_SEGMENT_BITS || segments.len() != 1 << segment_bits {
            return Err(SnapshotError::Mismatch);
        }
        let credentials = segments.iter().map(Segment::len).sum();
        let mut chunks = Vec::new();
        let mut segments = segments.into_iter().map(Arc::new).peekable();
        while segments.peek().is_some() {
            chunks.push(Arc::new(segments.by_ref().take(SEGMENTS_PER_CHUNK as usize).collect()));
        }
        Ok(Self { installation, version, segment_bits, policy, chunks, credentials })
    }

    /// Applies a delta and returns the new image.
    pub fn apply(&self, delta: &Delta) -> Result<Self, SnapshotError> {
        if delta.installation != self.installation {
            return Err(SnapshotError::OtherInstallation);
        }
        if delta.from != self.version || delta.to <= delta.from {
            return Err(SnapshotError::Mismatch);
        }
        let mut next = self.clone();
        next.version = delta.to;
        if let Some(policy) = &delta.policy {
            next.policy = policy.as_str().into();
        }
        for (index, changes) in delta.by_segment(self.segment_bits) {
            let chunk = next.chunks.get_mut((index / SEGMENTS_PER_CHUNK) as usize).map(Arc::make_mut);
            if let Some(segment) =
                chunk.and_then(|chunk| chunk.get_mut((index % SEGMENTS_PER_CHUNK) as usize))
            {
                let changed = segment.apply(delta.to, changes)?;
                next.credentials += changed.len() - segment.len();
                *segment = Arc::new(changed);
            }
        }
        Ok(next)
    }

    /// Whether there are too many credentials for the number of segments, so that the image should be
    /// repartitioned.
    pub fn needs_repartition(&self) -> bool {
        Manifest::segment_bits_for(self.credentials / 4) > self.segment_bits
    }

    /// Returns an image of the same credentials and version, with the number of segments that suits them.
    pub fn repartition(&self) -> Result<Self, SnapshotError> {
        let mut builder = ImageBuilder::new(self.credentials);
        for segment in self.chunks.iter().flat_map(|chunk| chunk.iter()) {
            for (digest, view) in segment.views() {
                builder.add_view(digest, &view)?;
            }
        }
        let segments = ImageBuilder::segments(&[builder], self.installation, self.version, 0..u32::MAX)?;
        Self::from_segments(self.installation, self.version, Arc::clone(&self.policy), segments)
    }

    /// Returns the same image under a later version.
    pub fn at_version(&self, version: u64) -> Self {
        Self { version, ..self.clone() }
    }

    /// The installation.
    pub fn installation(&self) -> Uuid {
        self.installation
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Computes the manifest from the checksums of all segments.
    pub fn manifest(&self) -> Manifest {
        let mut hasher = SegmentHasher::default();
        self.all_segments().for_each(|segment| hasher.add(segment));
        Manifest {
            installation: self.installation,
            version: self.version,
            segment_bits: self.segment_bits,
            segments_digest: hasher.finish(),
            policy: String::from(&*self.policy),
        }
    }

    /// Number of credentials.
    pub fn len(&self) -> usize {
        self.credentials
    }

    /// Whether there are no credentials.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(test)]
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.chunks.iter()
    }

    /// Looks up a digest.
    pub fn find(&self, digest: &Digest) -> Option<CredentialView<'_>> {
        let index = segment_index(digest, self.segment_bits);
        let chunk = self.chunks.get((index / SEGMENTS_PER_CHUNK) as usize)?;
        chunk.get((index % SEGMENTS_PER_CHUNK) as usize)?.find(digest)
    }

    /// The encoded segments.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.all_segments().map(Segment::bytes)
    }

    fn all_segments(&self) -> impl Iterator<Item = &Segment<Vec<u8>>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|segment| &**segment)
    }

    /// The chunk `n`: up to [`SEGMENTS_PER_CHUNK`] segments, from the segment `n * SEGMENTS_PER_CHUNK`.
    /// `None` if there is no such chunk.
    pub fn chunk(&self, n: u32) -> Option<&[Arc<Segment<Vec<u8>>>]> {
        self.chunks.get(n as usize).map(|chunk| chunk.as_slice())
    }

    /// The chunk `n` as bytes: its segments, concatenated.
    pub fn chunk_bytes(&self, n: u32) -> Option<Vec<u8>> {
        Some(self.chunk(n)?.iter().flat_map(|segment| segment.bytes()).copied().collect())
    }
}

/// Splits a chunk into its segments without validating them.
pub fn split_chunk(chunk: &[u8]) -> Result<Vec<&[u8]>, SnapshotError> {
    let mut segments = Vec::new();
    let mut rest = chunk;
    while !rest.is_empty() {
        let (header, _) = Header::ref_from_prefix(rest).map_err(|_| SnapshotError::Damaged)?;
        let length = header.length.get() as usize;
        if header.magic != MAGIC || length < HEADER_SIZE {
            return Err(SnapshotError::Damaged);
        }
        let (segment, after) = rest.split_at_checked(length).ok_or(SnapshotError::Damaged)?;
        segments.push(segment);
        rest = after;
    }
    Ok(segments)
}
