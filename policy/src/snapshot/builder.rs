//! Builds an image of many credentials: in any order, in compact form, and with several threads.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use uuid::Uuid;

use super::framing::SnapshotError;
use super::manifest::Manifest;
use super::segment::Segment;
use super::segment::id::{SegmentId, segment_index};
use super::segment::layout::{FLAG_REVOKED, FLAG_TEST, NEVER, Record};
use super::segment::writer::Writer;
use crate::address::{Allowlist, AllowlistView};
use crate::authorize::CredentialView;
use crate::digest::Digest;
use crate::key::Environment;
use crate::limit::RateLimit;
use crate::scope::ScopeSet;
use crate::time::UnixMillis;

/// Builds the segments of an image. The added credentials take about as much memory as their segments.
pub struct ImageBuilder {
    segment_bits: u8,
    profiles: Vec<Profile>,
    known: BTreeMap<Profile, u32>,
    segments: Vec<Rows>,
}

/// A profile, the settings that many keys share, by its index in one builder.
#[derive(Clone, Copy, Debug)]
pub struct ProfileNumber(u32);

/// One version of a key, like [`super::Credential`], with its shared settings as a profile.
#[derive(Clone, Copy, Debug)]
pub struct ProfiledCredential<'c> {
    /// SHA-256 of the secret.
    pub digest: Digest,
    /// The key.
    pub key_id: Uuid,
    /// The version, from 1.
    pub version: u16,
    /// The key's environment.
    pub environment: Environment,
    /// Whether the key or this version was revoked.
    pub revoked: bool,
    /// End of validity.
    pub not_after: Option<UnixMillis>,
    /// The key's name, at most 255 bytes.
    pub name: &'c str,
    /// Scopes, rate limits and allowlist.
    pub profile: ProfileNumber,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Profile {
    limits: [Option<u32>; 3],
    scopes: String,
    networks: Vec<u8>,
}

/// The credentials of one segment. `profile` of a record is an index into the builder's profiles, and
/// `name_offset` an offset in `names`.
#[derive(Default)]
struct Rows {
    records: Vec<Record>,
    names: Vec<u8>,
}

impl ImageBuilder {
    /// Creates a builder for an image of about `credentials` credentials, including those of other builders.
    pub fn new(credentials: usize) -> Self {
        Self::with_bits(Manifest::segment_bits_for(credentials))
    }

    pub(super) fn with_bits(segment_bits: u8) -> Self {
        let segments = (0..1u32 << segment_bits).map(|_| Rows::default()).collect();
        Self { segment_bits, profiles: Vec::new(), known: BTreeMap::new(), segments }
    }

    /// Returns the profile of these settings.
    pub fn profile(&mut self, limit: RateLimit, scopes: &ScopeSet, allowlist: &Allowlist) -> ProfileNumber {
        self.profile_number(limit, scopes.joined(), allowlist.to_bytes())
    }

    fn profile_number(&mut self, limit: RateLimit, scopes: String, networks: Vec<u8>) -> ProfileNumber {
        let profile = Profile { limits: [limit.per_minute, limit.per_hour, limit.burst], scopes, networks };
        let next = self.profiles.len() as u32;
        let number = *self.known.entry(profile).or_insert_with_key(|profile| {
            self.profiles.push(profile.clone());
            next
        });
        ProfileNumber(number)
    }

    /// Adds a credential.
    pub fn add(&mut self, credential: &ProfiledCredential<'_>) -> Result<(), SnapshotError> {
        let too_large = |_| SnapshotError::TooLarge;
        let segment = segment_index(&credential.digest, self.segment_bits) as usize;
        let rows = self.segments.get_mut(segment).ok_or(SnapshotError::Mismatch)?;
        let revoked = if credential.revoked { FLAG_REVOKED } else { 0 };
        let test = if credential.environment == Environment::Test { FLAG_TEST } else { 0 };
        rows.records.push(Record {
            digest: *credential.digest.as_bytes(),
            key_id: *credential.key_id.as_bytes(),
            not_after: credential.not_after.map_or(NEVER, |end| end.0).into(),
            name_offset: u32::try_from(rows.names.len()).map_err(too_large)?.into(),
            profile: credential.profile.0.into(),
            version: credential.version.into(),
            name_length: u8::try_from(credential.name.len()).map_err(too_large)?,
            flags: revoked | test,
        });
        rows.names.extend_from_slice(credential.name.as_bytes());
        Ok(())
    }

    /// Adds a credential from a segment.
    pub(super) fn add_view(
        &mut self,
        digest: Digest,
        view: &CredentialView<'_>,
    ) -> Result<(), SnapshotError> {
        let profile = self.profile_number(
            view.rate_limit,
            String::from(view.scopes),
            view.allowlist.as_bytes().to_vec(),
        );
        self.add(&ProfiledCredential {
            digest,
            key_id: view.key_id,
            version: view.version,
            environment: view.environment,
            revoked: view.revoked,
            not_after: view.not_after,
            name: view.name,
            profile,
        })
    }

    /// Number of segments of the image.
    pub fn segment_count(&self) -> u32 {
        1 << self.segment_bits
    }

    /// Builds the segments in `range`, limited to those that exist, from the credentials of all builders,
    /// which must have the same number of segments. The same credentials yield the same bytes, in whatever
    /// order and builder they were added.
    pub fn segments(
        builders: &[Self],
        installation: Uuid,
        version: u64,
        range: Range<u32>,
    ) -> Result<Vec<Segment<Vec<u8>>>, SnapshotError> {
        let bits = builders.first().map_or(0, |builder| builder.segment_bits);
        if builders.iter().any(|builder| builder.segment_bits != bits) {
            return Err(SnapshotError::Mismatch);
        }
        let end = range.end.min(1 << bits);
        (range.start..end)
            .map(|index| segment(builders, SegmentId { installation, bits, index }, version))
            .collect()
    }
}

fn segment(
    builders: &[ImageBuilder],
    id: SegmentId,
    version: u64,
) -> Result<Segment<Vec<u8>>, SnapshotError> {
    let mut rows: Vec<(&ImageBuilder, &Rows, &Record)> = Vec::new();
    for builder in builders {
        if let Some(of_builder) = builder.segments.get(id.index as usize) {
            rows.extend(of_builder.records.iter().map(|record| (builder, of_builder, record)));
        }
    }
    rows.sort_unstable_by_key(|(_, _, record)| &record.digest);
    let mut writer = Writer::default();
    for (builder, rows, record) in rows {
        let view = builder.view(rows, record).ok_or(SnapshotError::Damaged)?;
        writer.add(&Digest::from_bytes(record.digest), &view)?;
    }
    writer.finish(id, version)
}

impl ImageBuilder {
    fn view<'b>(&'b self, rows: &'b Rows, record: &Record) -> Option<CredentialView<'b>> {
        let profile = self.profiles.get(record.profile.get() as usize)?;
        let name = rows.names.get(record.name_offset.get() as usize..)?.get(..record.name_length.into())?;
        let [per_minute, per_hour, burst] = profile.limits;
        Some(CredentialView {
            key_id: Uuid::from_bytes(record.key_id),
            version: record.version.get(),
            name: core::str::from_utf8(name).ok()?,
            environment: if record.flags & FLAG_TEST != 0 { Environment::Test } else { Environment::Live },
            revoked: record.flags & FLAG_REVOKED != 0,
            not_after: Some(record.not_after.get()).filter(|end| *end != NEVER).map(UnixMillis),
            scopes: &profile.scopes,
            rate_limit: RateLimit { per_minute, per_hour, burst },
            allowlist: AllowlistView::from_bytes(&profile.networks)?,
        })
    }
}
