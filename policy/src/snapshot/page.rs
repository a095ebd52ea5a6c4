//! A page: credentials whose digests share their leading bits, sorted and read in place.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use uuid::Uuid;
use zerocopy::{FromBytes, IntoBytes};

use super::credential::Credential;
use super::page_id::{PageId, page_index};
use super::page_layout::{
    CRC_OFFSET, FLAG_REVOKED, FLAG_TEST, HEADER_SIZE, Header, MAGIC, NEVER, Profile, Record, page_crc,
};
use super::{Change, FORMAT, SnapshotError, check_head};
use crate::address::AllowlistView;
use crate::authorize::CredentialView;
use crate::digest::Digest;
use crate::key::Environment;
use crate::limit::RateLimit;
use crate::scope::{Scope, ScopeSet};
use crate::time::UnixMillis;

/// The version that a page states, without any check. For telling which of two pages is newer before writing.
pub fn stated_version(page: &[u8]) -> Option<u64> {
    Header::ref_from_prefix(page).ok().map(|(header, _)| header.version.get())
}

/// A page whose every part was checked once, so that reading it cannot fail.
#[derive(Clone)]
pub struct Page<B> {
    bytes: B,
    version: u64,
    records: Range<usize>,
    profiles: Range<usize>,
}

impl Page<Vec<u8>> {
    /// Makes a page at a version. The same credentials give the same bytes, in whatever order they come.
    pub fn build(id: PageId, version: u64, mut credentials: Vec<Credential>) -> Result<Self, SnapshotError> {
        credentials.sort_unstable_by_key(|credential| credential.digest);
        let mut writer = Writer::default();
        for credential in &credentials {
            if page_index(&credential.digest, id.bits) != id.index {
                return Err(SnapshotError::Mismatch);
            }
            writer.add(credential)?;
        }
        writer.finish(id, version)
    }
}

impl<B: AsRef<[u8]>> Page<B> {
    /// Checks a page that has come from elsewhere.
    pub fn parse(bytes: B, id: PageId) -> Result<Self, SnapshotError> {
        let page = Self::check(bytes)?;
        let header = page.header().ok_or(SnapshotError::Damaged)?;
        if header.installation != *id.installation.as_bytes() {
            return Err(SnapshotError::OtherInstallation);
        }
        if header.bits != id.bits || header.index.get() != id.index {
            return Err(SnapshotError::Mismatch);
        }
        Ok(page)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The version that last changed this page.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The page's CRC-32, which the page was checked against.
    pub fn checksum(&self) -> u32 {
        self.header().map_or(0, |header| header.crc.get())
    }

    /// How many credentials it holds.
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks a digest up.
    pub fn find(&self, digest: &Digest) -> Option<CredentialView<'_>> {
        let records = self.records();
        let at = records.binary_search_by(|record| record.digest.cmp(digest.as_bytes())).ok()?;
        self.view(records.get(at)?)
    }

    /// All credentials, in the order of their digests.
    pub fn credentials(&self) -> impl Iterator<Item = Credential> {
        self.records().iter().filter_map(|record| {
            let view = self.view(record)?;
            Some(Credential {
                digest: Digest::from_bytes(record.digest),
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

    /// The page after changes, at a later version. Changes to credentials of other pages must not be among them.
    ///
    /// Revoking a credential that the page does not hold changes nothing: it admits nobody as it is.
    pub fn apply<'c>(
        &self,
        version: u64,
        changes: impl IntoIterator<Item = &'c Change>,
    ) -> Result<Page<Vec<u8>>, SnapshotError> {
        let header = self.header().ok_or(SnapshotError::Damaged)?;
        let id = PageId {
            installation: Uuid::from_bytes(header.installation),
            bits: header.bits,
            index: header.index.get(),
        };
        let mut credentials: Vec<Credential> = self.credentials().collect();
        for change in changes {
            let at = credentials.binary_search_by_key(change.digest(), |credential| credential.digest);
            match (change, at) {
                (Change::Put(credential), Ok(at)) => {
                    if let Some(slot) = credentials.get_mut(at) {
                        *slot = credential.clone();
                    }
                }
                (Change::Put(credential), Err(at)) => credentials.insert(at, credential.clone()),
                (Change::Revoke(_), Ok(at)) => {
                    if let Some(slot) = credentials.get_mut(at) {
                        slot.revoked = true;
                    }
                }
                (Change::Revoke(_), Err(_)) => {}
            }
        }
        Page::build(id, version, credentials)
    }

    fn check(bytes: B) -> Result<Self, SnapshotError> {
        let page = bytes.as_ref();
        check_head(page, MAGIC)?;
        let damaged = SnapshotError::Damaged;
        let (header, _) = Header::ref_from_prefix(page).map_err(|_| damaged)?;
        if header.length.get() as usize != page.len() || header.crc.get() != page_crc(page) {
            return Err(damaged);
        }
        let part = |start: usize, count: u32, size: usize| {
            let end = (count as usize).checked_mul(size)?.checked_add(start)?;
            (end <= page.len()).then_some(start..end)
        };
        let records = part(HEADER_SIZE, header.records.get(), size_of::<Record>()).ok_or(damaged)?;
        let profiles = part(records.end, header.profiles.get(), size_of::<Profile>()).ok_or(damaged)?;
        let version = header.version.get();
        let this = Self { bytes, version, records, profiles };
        // Whoever passes this check can be read without further ones.
        let sorted = this.records().is_sorted_by(|left, right| left.digest < right.digest);
        let whole = this.records().iter().all(|record| this.view(record).is_some());
        if sorted && whole && this.profiles().iter().all(|profile| this.is_valid(profile)) {
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

    /// A profile without a limit would mean calls without end, and one with damaged scopes would lose them when the
    /// page is written again.
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
        let stated = |value: u32| (value != 0).then_some(value);
        RateLimit {
            per_minute: stated(self.per_minute.get()),
            per_hour: stated(self.per_hour.get()),
            burst: stated(self.burst.get()),
        }
    }
}

fn parse_scopes(joined: &str) -> Option<ScopeSet> {
    let scopes = joined.split(' ').filter(|scope| !scope.is_empty()).map(str::parse::<Scope>);
    ScopeSet::new(scopes.collect::<Result<Vec<_>, _>>().ok()?).ok()
}

/// Collects the parts of a page.
#[derive(Default)]
struct Writer {
    records: Vec<Record>,
    profiles: Vec<(Profile, String, Vec<u8>)>,
    heap: Vec<u8>,
}

impl Writer {
    fn add(&mut self, credential: &Credential) -> Result<(), SnapshotError> {
        let profile = self.profile(credential)?;
        let name_offset = self.store(credential.name.as_bytes())?;
        let revoked = if credential.revoked { FLAG_REVOKED } else { 0 };
        let test = if credential.environment == Environment::Test { FLAG_TEST } else { 0 };
        self.records.push(Record {
            digest: *credential.digest.as_bytes(),
            key_id: *credential.key_id.as_bytes(),
            not_after: credential.not_after.map_or(NEVER, |end| end.0).into(),
            name_offset: name_offset.into(),
            profile: profile.into(),
            version: credential.version.into(),
            name_length: u8::try_from(credential.name.len()).map_err(|_| SnapshotError::TooLarge)?,
            flags: revoked | test,
        });
        Ok(())
    }

    /// The number of the credential's profile, which is written at its first use.
    fn profile(&mut self, credential: &Credential) -> Result<u32, SnapshotError> {
        let scopes = credential.scopes.joined();
        let networks = credential.allowlist.to_bytes();
        let limit = credential.rate_limit;
        let known = self.profiles.iter().position(|(profile, known_scopes, known_networks)| {
            profile.per_minute.get() == limit.per_minute.unwrap_or(0)
                && profile.per_hour.get() == limit.per_hour.unwrap_or(0)
                && profile.burst.get() == limit.burst.unwrap_or(0)
                && *known_scopes == scopes
                && *known_networks == networks
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
            scopes_offset: self.store(scopes.as_bytes())?.into(),
            networks_offset: self.store(&networks)?.into(),
        };
        self.profiles.push((profile, scopes, networks));
        u32::try_from(self.profiles.len() - 1).map_err(|_| SnapshotError::TooLarge)
    }

    fn store(&mut self, bytes: &[u8]) -> Result<u32, SnapshotError> {
        let offset = u32::try_from(self.heap.len()).map_err(|_| SnapshotError::TooLarge)?;
        self.heap.extend_from_slice(bytes);
        Ok(offset)
    }

    fn finish(self, id: PageId, version: u64) -> Result<Page<Vec<u8>>, SnapshotError> {
        let profiles: Vec<Profile> = self.profiles.iter().map(|(profile, ..)| *profile).collect();
        let (records, profiles) = (self.records.as_bytes(), profiles.as_bytes());
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
        let crc = page_crc(&bytes).to_le_bytes();
        if let Some(field) = bytes.get_mut(CRC_OFFSET..CRC_OFFSET + 4) {
            field.copy_from_slice(&crc);
        }
        Page::check(bytes)
    }
}
