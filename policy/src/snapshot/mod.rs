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
mod image;
mod manifest;
mod segment;

pub use self::builder::{ImageBuilder, ProfileNumber, ProfiledCredential};
pub use self::credential::Credential;
pub use self::delta::{Change, Delta, MAX_CHANGES_PER_DELTA};
pub use self::image::{Image, split_chunk};
pub use self::manifest::{Manifest, SEGMENTS_PER_CHUNK, SegmentHasher};
pub use self::segment::id::{MAX_SEGMENT_BITS, SegmentId};
pub use self::segment::{Segment, unchecked_version};

/// The format that this crate writes and reads.
pub const FORMAT: u16 = 1;

/// Why bytes are not a part of a snapshot, or a part does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The magic is missing.
    #[error("not a snapshot part of the expected kind")]
    Foreign,
    /// The format number is not [`FORMAT`].
    #[error("snapshot format {0} is not supported; this side reads format {FORMAT}")]
    Format(u16),
    /// The part is truncated, too long, or damaged.
    #[error("the snapshot part is damaged")]
    Damaged,
    /// The part belongs to another installation.
    #[error("the snapshot belongs to another installation")]
    OtherInstallation,
    /// The part is for another version than the current one, or for another segment.
    #[error("the snapshot part does not apply to the current snapshot")]
    Mismatch,
    /// The snapshot's policy is invalid.
    #[error("the snapshot's policy is invalid")]
    Policy,
    /// A text or list exceeds the maximum of the format.
    #[error("a credential does not fit into the snapshot format")]
    TooLarge,
}

/// Checks the magic and format of a part, and returns the rest.
fn check_magic(bytes: &[u8], magic: [u8; 4]) -> Result<&[u8], SnapshotError> {
    let rest = bytes.strip_prefix(&magic).ok_or(SnapshotError::Foreign)?;
    let (format, rest) = rest.split_first_chunk().ok_or(SnapshotError::Damaged)?;
    match u16::from_le_bytes(*format) {
        FORMAT => Ok(rest),
        other => Err(SnapshotError::Format(other)),
    }
}

/// Encodes a part: magic, format, CRC-32 over everything else, body.
fn seal(magic: [u8; 4], body: &[u8]) -> alloc::vec::Vec<u8> {
    let mut bytes = alloc::vec::Vec::with_capacity(body.len() + 10);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&crc(&[&magic, &FORMAT.to_le_bytes(), body]).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Checks a part that was encoded by [`seal`], and returns its body.
fn open(bytes: &[u8], magic: [u8; 4]) -> Result<&[u8], SnapshotError> {
    let rest = check_magic(bytes, magic)?;
    let (stated, body) = rest.split_first_chunk().ok_or(SnapshotError::Damaged)?;
    if crc(&[&magic, &FORMAT.to_le_bytes(), body]) == u32::from_le_bytes(*stated) {
        Ok(body)
    } else {
        Err(SnapshotError::Damaged)
    }
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests;
