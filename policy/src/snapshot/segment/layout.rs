//! The byte layout of a segment.
//!
//! | part | bytes |
//! |---|---|
//! | [`Header`] | 64 |
//! | [`Record`]s, sorted by digest | 68 each |
//! | [`Profile`]s: settings that many keys share, each stored once | 24 each |
//! | heap: names, scopes separated by spaces, networks of 17 bytes | the rest |
//!
//! Offsets count from the start of the heap.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of a segment.
pub(in crate::snapshot) const MAGIC: [u8; 4] = *b"OMFP";
/// `not_after` of a credential that does not expire.
pub(in crate::snapshot) const NEVER: u64 = u64::MAX;
pub(in crate::snapshot) const FLAG_REVOKED: u8 = 1;
pub(in crate::snapshot) const FLAG_TEST: u8 = 2;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(in crate::snapshot) struct Header {
    pub(in crate::snapshot) magic: [u8; 4],
    pub(in crate::snapshot) format: U16,
    pub(in crate::snapshot) bits: u8,
    pub(in crate::snapshot) reserved: u8,
    /// CRC-32 of the whole segment with this field zero.
    pub(in crate::snapshot) crc: U32,
    /// Length of the whole segment in bytes, including the header.
    pub(in crate::snapshot) length: U32,
    pub(in crate::snapshot) installation: [u8; 16],
    /// The version that last changed this segment.
    pub(in crate::snapshot) version: U64,
    pub(in crate::snapshot) index: U32,
    pub(in crate::snapshot) records: U32,
    pub(in crate::snapshot) profiles: U32,
    pub(in crate::snapshot) padding: [u8; 12],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(in crate::snapshot) struct Record {
    pub(in crate::snapshot) digest: [u8; 32],
    pub(in crate::snapshot) key_id: [u8; 16],
    /// Unix time in milliseconds, or [`NEVER`].
    pub(in crate::snapshot) not_after: U64,
    pub(in crate::snapshot) name_offset: U32,
    pub(in crate::snapshot) profile: U32,
    pub(in crate::snapshot) version: U16,
    pub(in crate::snapshot) name_length: u8,
    pub(in crate::snapshot) flags: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(in crate::snapshot) struct Profile {
    /// Zero for no limit, as in the two fields below.
    pub(in crate::snapshot) per_minute: U32,
    pub(in crate::snapshot) per_hour: U32,
    pub(in crate::snapshot) burst: U32,
    pub(in crate::snapshot) scopes_offset: U32,
    pub(in crate::snapshot) networks_offset: U32,
    pub(in crate::snapshot) scopes_length: U16,
    /// In bytes.
    pub(in crate::snapshot) networks_length: U16,
}

pub(in crate::snapshot) const HEADER_SIZE: usize = size_of::<Header>();
pub(in crate::snapshot) const CRC_OFFSET: usize = 8;

/// Computes the CRC-32 of a segment, with its own field as zero.
pub(in crate::snapshot) fn segment_crc(segment: &[u8]) -> u32 {
    let before = segment.get(..CRC_OFFSET).unwrap_or_default();
    let after = segment.get(CRC_OFFSET + 4..).unwrap_or_default();
    crate::snapshot::crc(&[before, &[0; 4], after])
}

/// Writes the CRC-32 of a segment into its field.
pub(in crate::snapshot) fn set_segment_crc(segment: &mut [u8]) {
    let crc = segment_crc(segment).to_le_bytes();
    if let Some(field) = segment.get_mut(CRC_OFFSET..CRC_OFFSET + 4) {
        field.copy_from_slice(&crc);
    }
}
