//! Which page a digest is on.

use uuid::Uuid;

use crate::digest::Digest;

/// Pages are numbered by at most so many leading bits of a digest: 65,536 pages.
pub const MAX_PAGE_BITS: u8 = 16;

/// Which page of which installation's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageId {
    /// The installation.
    pub installation: Uuid,
    /// Leading bits of a digest that number the page.
    pub bits: u8,
    /// Its number.
    pub index: u32,
}

/// The first `bits` bits of a digest.
pub(super) fn page_index(digest: &Digest, bits: u8) -> u32 {
    let [first, second, ..] = *digest.as_bytes();
    u32::from(u16::from_be_bytes([first, second])) >> (16 - u32::from(bits.min(MAX_PAGE_BITS)))
}
