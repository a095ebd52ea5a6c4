//! The bytes of a page.
//!
//! | part | bytes |
//! |---|---|
//! | [`Header`] | 64 |
//! | [`Record`]s, sorted by digest | 68 each |
//! | [`Profile`]s: what many keys have in common, each once | 24 each |
//! | heap: names, scopes joined by spaces, networks of 17 bytes | the rest |
//!
//! Offsets count from the start of the heap.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(super) const MAGIC: [u8; 4] = *b"OMFP";
/// `not_after` of a credential that does not expire.
pub(super) const NEVER: u64 = u64::MAX;
pub(super) const FLAG_REVOKED: u8 = 1;
pub(super) const FLAG_TEST: u8 = 2;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: [u8; 4],
    pub(super) format: U16,
    pub(super) bits: u8,
    pub(super) reserved: u8,
    /// CRC-32 of the whole page with this field zero.
    pub(super) crc: U32,
    /// Length of the whole page, header included.
    pub(super) length: U32,
    pub(super) installation: [u8; 16],
    /// The version that last changed this page.
    pub(super) version: U64,
    pub(super) index: U32,
    pub(super) records: U32,
    pub(super) profiles: U32,
    pub(super) padding: [u8; 12],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Record {
    pub(super) digest: [u8; 32],
    pub(super) key_id: [u8; 16],
    /// Unix milliseconds, or [`NEVER`].
    pub(super) not_after: U64,
    pub(super) name_offset: U32,
    pub(super) profile: U32,
    pub(super) version: U16,
    pub(super) name_length: u8,
    pub(super) flags: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Profile {
    /// Zero for none, in the three limits.
    pub(super) per_minute: U32,
    pub(super) per_hour: U32,
    pub(super) burst: U32,
    pub(super) scopes_offset: U32,
    pub(super) networks_offset: U32,
    pub(super) scopes_length: U16,
    /// In bytes.
    pub(super) networks_length: U16,
}

pub(super) const HEADER_SIZE: usize = size_of::<Header>();
pub(super) const CRC_OFFSET: usize = 8;

/// The CRC-32 of a page, its own field taken as zero.
pub(super) fn page_crc(page: &[u8]) -> u32 {
    let before = page.get(..CRC_OFFSET).unwrap_or_default();
    let after = page.get(CRC_OFFSET + 4..).unwrap_or_default();
    super::crc(&[before, &[0; 4], after])
}

/// Writes the CRC-32 of a page into its field.
pub(super) fn set_page_crc(page: &mut [u8]) {
    let crc = page_crc(page).to_le_bytes();
    if let Some(field) = page.get_mut(CRC_OFFSET..CRC_OFFSET + 4) {
        field.copy_from_slice(&crc);
    }
}
