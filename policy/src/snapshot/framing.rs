//! Elements common to all parts of a snapshot: the magic, the format number, the CRC-32, and read errors.

use alloc::vec::Vec;

/// The format that this crate writes and reads.
pub const FORMAT: u16 = 1;

/// Why bytes are not a part of a snapshot, or a part does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The magic is missing.
    #[error("not a snapshot part of the expected kind")]
    Foreign,
    /// The format number is not [`FORMAT`].
    #[error("snapshot format {0} is not supported; only format {FORMAT} is")]
    Format(u16),
    /// The part is truncated, too long, or damaged.
    #[error("the snapshot part is corrupted")]
    Damaged,
    /// The part belongs to another installation.
    #[error("the snapshot belongs to another installation")]
    OtherInstallation,
    /// The part does not apply to the current version, or is for another segment.
    #[error("the snapshot part does not apply to the current snapshot")]
    Mismatch,
    /// The snapshot's policy is invalid.
    #[error("the snapshot's policy is invalid")]
    Policy,
    /// A text or list exceeds the maximum of the format.
    #[error("a credential does not fit in the snapshot format")]
    TooLarge,
}

/// Checks the magic and format of a part, and returns the rest.
pub(super) fn check_magic(bytes: &[u8], magic: [u8; 4]) -> Result<&[u8], SnapshotError> {
    let rest = bytes.strip_prefix(&magic).ok_or(SnapshotError::Foreign)?;
    let (format, rest) = rest.split_first_chunk().ok_or(SnapshotError::Damaged)?;
    match u16::from_le_bytes(*format) {
        FORMAT => Ok(rest),
        other => Err(SnapshotError::Format(other)),
    }
}

/// Encodes a part: magic, format, CRC-32 over everything else, body.
pub(super) fn seal(magic: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 10);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&crc(&[&magic, &FORMAT.to_le_bytes(), body]).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Checks a part that was encoded by [`seal`], and returns its body.
pub(super) fn open(bytes: &[u8], magic: [u8; 4]) -> Result<&[u8], SnapshotError> {
    let rest = check_magic(bytes, magic)?;
    let (stated, body) = rest.split_first_chunk().ok_or(SnapshotError::Damaged)?;
    if crc(&[&magic, &FORMAT.to_le_bytes(), body]) == u32::from_le_bytes(*stated) {
        Ok(body)
    } else {
        Err(SnapshotError::Damaged)
    }
}

/// Computes the CRC-32 of the concatenated `parts`.
pub(super) fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}
