//! A segment: credentials whose digests share their leading bits, sorted and read in place.

mod apply;
pub(super) mod id;
pub(super) mod layout;
pub(super) mod writer;

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use uuid::Uuid;
use zerocopy::FromBytes;

use self::id::SegmentId;
use self::layout::{
    FLAG_REVOKED, FLAG_TEST, HEADER_SIZE, Header, MAGIC, NEVER, Profile, Record, segment_crc,
};
use super::credential::Credential;
use super::framing::{SnapshotError, check_magic};
use crate::address::AllowlistView;
use crate::authorize::CredentialView;
use crate::digest::Digest;
use crate::key::Environment;
use crate::limit::RateLimit;
use crate::scope::{Scope, ScopeSet};
use crate::time::UnixMillis;

/// Returns the version in a segment's header, without a check. Used to find out which of two segments is
/// newer before writing.
pub fn unchecked_version(segment: &[u8]) -> Option<u64> {
    Header::ref_from_prefix(segment).ok().map(|(header, _)| header.version.get())
}

/// A validated segment: reading it cannot fail.
#[derive(Clone)]
pub struct Segment<B> {
    bytes: B,
    version: u64,
    records: Range<usize>,
    profiles: Range<usize>,
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Validates a segment from an untrusted source.
    pub fn parse(bytes: B, id: SegmentId) -> Result<Self, SnapshotError> {
        let segment = Self::check(bytes)?;
        let header = segment.header().ok_or(SnapshotError::Damaged)?;
        if header.installation != *id.installation.as_bytes() {
            return Err(SnapshotError::OtherInstallation);
        }
        if header.bits != id.bits || header.index.get() != id.index {
            return Err(SnapshotError::Mismatch);
        }
        Ok(segment)
    }

    /// The encoded segment.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The version that last changed this segment.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The segment's CRC-32, which was verified.
    pub fn checksum(&self) -> u32 {
        self.header().map_or(0, |header| header.crc.get())
    }

    /// Number of credentials.
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// Whether there are no credentials.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks up a digest.
    pub fn find(&self, digest: &Digest) -> Option<CredentialView<'_>> {
        let records = self.records();
        let at = records.binary_search_by(|record| record.digest.cmp(digest.as_bytes())).ok()?;
        self.view(records.get(at)?)
    }

    /// All credentials, in the order of their digests.
    pub fn credentials(&self) -> impl Iterator<Item = Credential> {
        self.views().filter_map(|(digest, view)| {
            Some(Credential {
                digest,
                key_id: view.key_id,
                version: view.version,
                environment: view.environment,
                revoked: view.revoked,
                not_after: view.not_after,
                name: String::from(view.name),
                scopes: parse_scopes(view.scopes)?,
                rate_limit: view.rate_limit,
                allowlist: view.allowlist.to_owned(),
            })
        })
    }

    /// All credentials in place, with their digests, in the order of their digests.
    pub(super) fn views(&self) -> impl Iterator<Item = (Digest, CredentialView<'_>)> {
        self.records()
            .iter()
            .filter_map(|record| Some((Digest::from_bytes(record.digest), self.view(record)?)))
    }

    fn id(&self) -> Option<SegmentId> {
        let header = self.header()?;
        let installation = Uuid::from_bytes(header.installation);
        Some(SegmentId { installation, bits: header.bits, index: header.index.get() })
    }

    pub(super) fn check(bytes: B) -> Result<Self, SnapshotError> {
        let segment = bytes.as_ref();
        check_magic(segment, MAGIC)?;
        let damaged = SnapshotError::Damaged;
        let (header, _) = Header::ref_from_prefix(segment).map_err(|_| damaged)?;
        if header.length.get() as usize != segment.len() || header.crc.get() != segment_crc(segment) {
            return Err(damaged);
        }
        let part = |start: usize, count: u32, size: usize| {
            let end = (count as usize).checked_mul(size)?.checked_add(start)?;
            (end <= segment.len()).then_some(start..end)
        };
        let records = part(HEADER_SIZE, header.records.get(), size_of::<Record>()).ok_or(damaged)?;
        let profiles = part(records.end, header.profiles.get(), size_of::<Profile>()).ok_or(damaged)?;
        let version = header.version.get();
        let this = Self { bytes, version, records, profiles };
        // After this check, reading needs no others.
        let sorted = this.records().is_sorted_by(|left, right| left.digest < right.digest);
        let readable = this.records().iter().all(|record| this.view(record).is_some());
        if sorted && readable && this.profiles().iter().all(|profile| this.is_valid(profile)) {
            Ok(this)
        } else {
            Err(damaged)
        }
    }

    fn header(&self) -> Option<&Header> {
        Header::ref_from_prefix(self.bytes()).ok().map(|(header, _)| header)
    }

    fn records(&self) -> &[Record] {
        self.bytes()
            .get(self.records.clone())
            .and_then(|part| <[Record]>::ref_from_bytes(part).ok())
            .unwrap_or(&[])
    }

    fn profiles(&self) -> &[Profile] {
        self.bytes()
            .get(self.profiles.clone())
            .and_then(|part| <[Profile]>::ref_from_bytes(part).ok())
            .unwrap_or(&[])
    }

    fn heap(&self, offset: u32, length: usize) -> Option<&[u8]> {
        let start = self.profiles.end.checked_add(offset as usize)?;
        self.bytes().get(start..start.checked_add(length)?)
    }

    /// Whether a profile has a valid limit and valid scopes. A profile without a limit would allow unlimited
    /// calls, and one with damaged scopes would lose them when the segment is written again.
    fn is_valid(&self, profile: &Profile) -> bool {
        let scopes = self
            .heap(profile.scopes_offset.get(), usize::from(profile.scopes_length.get()))
            .and_then(|bytes| core::str::from_utf8(bytes).ok());
        profile.rate_limit().validate().is_ok() && scopes.is_some_and(|scopes| parse_scopes(scopes).is_some())
    }

    fn view(&self, record: &Record) -> Option<CredentialView<'_>> {
        let profile = self.profiles().get(record.profile.get() as usize)?;
        let name = self.heap(record.name_offset.get(), usize::from(record.name_length))?;
        let scopes = self.heap(profile.scopes_offset.get(), usize::from(profile.scopes_length.get()))?;
        let networks =
            self.heap(profile.networks_offset.get(), usize::from(profile.networks_length.get()))?;
        Some(CredentialView {
            key_id: Uuid::from_bytes(record.key_id),
            version: record.version.get(),
            name: core::str::from_utf8(name).ok()?,
            environment: if record.flags & FLAG_TEST != 0 { Environment::Test } else { Environment::Live },
            revoked: record.flags & FLAG_REVOKED != 0,
            not_after: Some(record.not_after.get()).filter(|end| *end != NEVER).map(UnixMillis),
            scopes: core::str::from_utf8(scopes).ok()?,
            rate_limit: profile.rate_limit(),
            allowlist: AllowlistView::from_bytes(networks)?,
        })
    }
}

impl Profile {
    fn rate_limit(&self) -> RateLimit {
        let limit = |value: u32| (value != 0).then_some(value);
        RateLimit {
            per_minute: limit(self.per_minute.get()),
            per_hour: limit(self.per_hour.get()),
            burst: limit(self.burst.get()),
        }
    }
}

fn parse_scopes(joined: &str) -> Option<ScopeSet> {
    let scopes = joined.split(' ').filter(|scope| !scope.is_empty()).map(str::parse::<Scope>);
    ScopeSet::new(scopes.collect::<Result<Vec<_>, _>>().ok()?).ok()
}
