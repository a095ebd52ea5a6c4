//! Encodes segments.

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use super::Segment;
use super::id::{SegmentId, segment_index};
use super::layout::{
    FLAG_REVOKED, FLAG_TEST, HEADER_SIZE, Header, MAGIC, NEVER, Profile, Record, set_segment_crc,
};
use crate::authorize::CredentialView;
use crate::digest::Digest;
use crate::key::Environment;
use crate::snapshot::credential::Credential;
use crate::snapshot::framing::{FORMAT, SnapshotError};

/// Collects the parts of a segment. Credentials must be added in the order of their digests.
#[derive(Default)]
pub(crate) struct Writer {
    records: Vec<Record>,
    profiles: Vec<Profile>,
    heap: Vec<u8>,
}

// === impl Segment ===

impl Segment<Vec<u8>> {
    /// Builds a segment. The same credentials yield the same bytes, in whatever order they are given.
    pub fn build(
        id: SegmentId,
        version: u64,
        mut credentials: Vec<Credential>,
    ) -> Result<Self, SnapshotError> {
        credentials.sort_unstable_by_key(|credential| credential.digest);
        let mut writer = Writer::default();
        for credential in &credentials {
            writer.add_credential(id, credential, credential.revoked)?;
        }
        writer.finish(id, version)
    }
}

// === impl Writer ===

impl Writer {
    /// Adds a credential, which must belong to this segment.
    pub(crate) fn add_credential(
        &mut self,
        id: SegmentId,
        credential: &Credential,
        revoked: bool,
    ) -> Result<(), SnapshotError> {
        if segment_index(&credential.digest, id.bits) != id.index {
            return Err(SnapshotError::Mismatch);
        }
        let (scopes, networks) = (credential.scopes.joined(), credential.allowlist.to_bytes());
        let view = CredentialView { revoked, ..credential.view(&scopes, &networks) };
        self.add(&credential.digest, &view)
    }

    /// Adds a credential from another segment.
    pub(crate) fn add(&mut self, digest: &Digest, view: &CredentialView<'_>) -> Result<(), SnapshotError> {
        let profile = self.profile(view)?;
        let name_offset = self.store(view.name.as_bytes())?;
        let revoked = if view.revoked { FLAG_REVOKED } else { 0 };
        let test = if view.environment == Environment::Test { FLAG_TEST } else { 0 };
        self.records.push(Record {
            digest: *digest.as_bytes(),
            key_id: *view.key_id.as_bytes(),
            not_after: view.not_after.map_or(NEVER, |end| end.0).into(),
            name_offset: name_offset.into(),
            profile: profile.into(),
            version: view.version.into(),
            name_length: u8::try_from(view.name.len()).map_err(|_| SnapshotError::TooLarge)?,
            flags: revoked | test,
        });
        Ok(())
    }

    /// Returns the index of the credential's profile, and adds it if it is new.
    fn profile(&mut self, view: &CredentialView<'_>) -> Result<u32, SnapshotError> {
        let (scopes, networks) = (view.scopes.as_bytes(), view.allowlist.as_bytes());
        let limit = view.rate_limit;
        let known = self.profiles.iter().position(|profile| {
            profile.per_minute.get() == limit.per_minute.unwrap_or(0)
                && profile.per_hour.get() == limit.per_hour.unwrap_or(0)
                && profile.burst.get() == limit.burst.unwrap_or(0)
                && self.stored(profile.scopes_offset.get(), profile.scopes_length.get()) == Some(scopes)
                && self.stored(profile.networks_offset.get(), profile.networks_length.get()) == Some(networks)
        });
        if let Some(known) = known {
            return u32::try_from(known).map_err(|_| SnapshotError::TooLarge);
        }
        let short = |length: usize| u16::try_from(length).map_err(|_| SnapshotError::TooLarge);
        let profile = Profile {
            per_minute: limit.per_minute.unwrap_or(0).into(),
            per_hour: limit.per_hour.unwrap_or(0).into(),
            burst: limit.burst.unwrap_or(0).into(),
            scopes_length: short(scopes.len())?.into(),
            networks_length: short(networks.len())?.into(),
            scopes_offset: self.store(scopes)?.into(),
            networks_offset: self.store(networks)?.into(),
        };
        self.profiles.push(profile);
        u32::try_from(self.profiles.len() - 1).map_err(|_| SnapshotError::TooLarge)
    }

    fn stored(&self, offset: u32, length: u16) -> Option<&[u8]> {
        self.heap.get(offset as usize..)?.get(..usize::from(length))
    }

    fn store(&mut self, bytes: &[u8]) -> Result<u32, SnapshotError> {
        let offset = u32::try_from(self.heap.len()).map_err(|_| SnapshotError::TooLarge)?;
        self.heap.extend_from_slice(bytes);
        Ok(offset)
    }

    pub(crate) fn finish(self, id: SegmentId, version: u64) -> Result<Segment<Vec<u8>>, SnapshotError> {
        let (records, profiles) = (self.records.as_bytes(), self.profiles.as_bytes());
        let length = HEADER_SIZE + records.len() + profiles.len() + self.heap.len();
        let count = |bytes: &[u8], size: usize| {
            u32::try_from(bytes.len() / size).map_err(|_| SnapshotError::TooLarge)
        };
        let header = Header {
            magic: MAGIC,
            format: FORMAT.into(),
            bits: id.bits,
            reserved: 0,
            crc: 0.into(),
            length: u32::try_from(length).map_err(|_| SnapshotError::TooLarge)?.into(),
            installation: *id.installation.as_bytes(),
            version: version.into(),
            index: id.index.into(),
            records: count(records, size_of::<Record>())?.into(),
            profiles: count(profiles, size_of::<Profile>())?.into(),
            padding: [0; 12],
        };
        let mut bytes = Vec::with_capacity(length);
        for part in [header.as_bytes(), records, profiles, &self.heap] {
            bytes.extend_from_slice(part);
        }
        set_segment_crc(&mut bytes);
        Segment::check(bytes)
    }
}
