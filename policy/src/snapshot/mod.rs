//! The binary format in which keys travel to the gateways.
//!
//! An [`Image`] is all keys at one version: a [`Manifest`] and pages. A page holds the credentials whose digests
//! begin with the page's number, sorted, and is read in place. A [`Delta`] takes a gateway from one version to a
//! later one and names the changed credentials only; applied to an image it gives the same records as an image
//! built anew. All numbers are little-endian; every part carries a CRC-32 over the rest of itself, which finds
//! every damage of up to four bytes in a row.

mod builder;
mod credential;
mod delta;
mod image;
mod manifest;
mod page;
mod page_id;
mod page_layout;
mod page_writer;

pub use self::builder::{ImageBuilder, ProfileNumber, ProfiledCredential};
pub use self::credential::Credential;
pub use self::delta::{Change, Delta, MAX_CHANGES_PER_DELTA};
pub use self::image::{Image, split_chunk};
pub use self::manifest::{Manifest, PAGES_PER_CHUNK, PageSum};
pub use self::page::{Page, stated_version};
pub use self::page_id::{MAX_PAGE_BITS, PageId};

/// The format that this crate writes and reads.
pub const FORMAT: u16 = 1;

/// Why bytes are no part of a snapshot, or a part does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The magic is missing.
    #[error("not a snapshot part of the expected kind")]
    Foreign,
    /// Another format.
    #[error("snapshot format {0} is not supported; this side reads format {FORMAT}")]
    Format(u16),
    /// Cut short, too long, or damaged.
    #[error("the snapshot part is damaged")]
    Damaged,
    /// It belongs to another installation.
    #[error("the snapshot belongs to another installation")]
    OtherInstallation,
    /// It is for another version than the one held, or for another page.
    #[error("the snapshot part does not fit what is held")]
    Mismatch,
    /// The policy inside it cannot be used.
    #[error("the snapshot's policy cannot be used")]
    Policy,
    /// A text or list is longer than the format holds.
    #[error("a credential does not fit into the snapshot format")]
    TooLarge,
}

/// The head of every part: magic and format.
fn check_head(bytes: &[u8], magic: [u8; 4]) -> Result<&[u8], SnapshotError> {
    let rest = bytes.strip_prefix(&magic).ok_or(SnapshotError::Foreign)?;
    let (format, rest) = rest.split_first_chunk().ok_or(SnapshotError::Damaged)?;
    match u16::from_le_bytes(*format) {
        FORMAT => Ok(rest),
        other => Err(SnapshotError::Format(other)),
    }
}

/// A part from its magic and body: magic, format, CRC-32 over all else, body.
fn seal(magic: [u8; 4], body: &[u8]) -> alloc::vec::Vec<u8> {
    let mut bytes = alloc::vec::Vec::with_capacity(body.len() + 10);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&crc(&[&magic, &FORMAT.to_le_bytes(), body]).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The body of a part made by [`seal`].
fn open(bytes: &[u8], magic: [u8; 4]) -> Result<&[u8], SnapshotError> {
    let rest = check_head(bytes, magic)?;
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
