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

use crate::snapshot::framing::crc;

/// The first bytes of a segment.
pub(crate) const MAGIC: [u8; 4] = *b"OMFP";
/// `not_after` of a credential that does not expire.
pub(crate) const NEVER: u64 = u64::MAX;
pub(crate) const FLAG_REVOKED: u8 = 1;
pub(crate) const FLAG_TEST: u8 = 2;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 4],
    pub(crate) format: U16,
    pub(crate) bits: u8,
    pub(crate) reserved: u8,
    /// CRC-32 of the whole segment with this field zero.
    pub(crate) crc: U32,
    /// Length of the whole segment in bytes, including the header.
    pub(crate) length: U32,
    pub(crate) installation: [u8; 16],
    /// The version that last changed this segment.
    pub(crate) version: U64,
    pub(crate) index: U32,
    pub(crate) records: U32,
    pub(crate) profiles: U32,
    pub(crate) padding: [u8; 12],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) digest: [u8; 32],
    pub(crate) key_id: [u8; 16],
    /// Unix time in milliseconds, or [`NEVER`].
    pub(crate) not_after: U64,
    pub(crate) name_offset: U32,
    pub(crate) profile: U32,
    pub(crate) version: U16,
    pub(crate) name_length: u8,
    pub(crate) flags: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Profile {
    /// Zero for no limit, as in the two fields below.
    pub(crate) per_minute: U32,
    pub(crate) per_hour: U32,
    pub(crate) burst: U32,
    pub(crate) scopes_offset: U32,
    pub(crate) networks_offset: U32,
    pub(crate) scopes_length: U16,
    /// In bytes.
    pub(crate) networks_length: U16,
}

pub(crate) const HEADER_SIZE: usize = size_of::<Header>();
pub(crate) const CRC_OFFSET: usize = 8;

/// Computes the CRC-32 of a segment, with its own field as zero.
pub(crate) fn segment_crc(segment: &[u8]) -> u32 {
    let before = segment.get(..CRC_OFFSET).unwrap_or_default();
    let after = segment.get(CRC_OFFSET + 4..).unwrap_or_default();
    crc(&[before, &[0; 4], after])
}

/// Writes the CRC-32 of a segment into its field.
pub(crate) fn set_segment_crc(segment: &mut [u8]) {
    let crc = segment_crc(segment).to_le_bytes();
    if let Some(field) = segment.get_mut(CRC_OFFSET..CRC_OFFSET + 4) {
        field.copy_from_slice(&crc);
    }
}
