//! A page: credentials whose digests share their leading bits, sorted and read in place.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use uuid::Uuid;
use zerocopy::FromBytes;

use super::credential::Credential;
use super::page_id::PageId;
use super::page_layout::{
    FLAG_REVOKED, FLAG_TEST, HEADER_SIZE, Header, MAGIC, NEVER, Profile, Record, page_crc, set_page_crc,
};
use super::page_writer::Writer;
use super::{Change, SnapshotError, check_head};
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

/// What becomes of a credential by a delta.
#[derive(Clone, Copy, Default)]
struct Outcome<'c> {
    /// What replaces it.
    put: Option<&'c Credential>,
    /// Whether it is revoked, or what replaces it.
    revoked: bool,
}

impl Page<Vec<u8>> {
    /// Makes a page at a version. The same credentials give the same bytes, in whatever order they come.
    pub fn build(id: PageId, version: u64, mut credentials: Vec<Credential>) -> Result<Self, SnapshotError> {
        credentials.sort_unstable_by_key(|credential| credential.digest);
        let mut writer = Writer::default();
        for credential in &credentials {
            writer.add_credential(id, credential, credential.revoked)?;
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

    /// The page after changes, at a later version. Changes to credentials of other pages must not be among them.
    ///
    /// Revoking a credential that the page does not hold changes nothing: it admits nobody as it is.
    pub fn apply<'c>(
        &self,
        version: u64,
        changes: impl IntoIterator<Item = &'c Change>,
    ) -> Result<Page<Vec<u8>>, SnapshotError> {
        let mut outcomes = BTreeMap::<&Digest, Outcome<'_>>::new();
        for change in changes {
            let outcome = outcomes.entry(change.digest()).or_default();
            match change {
                Change::Put(credential) => *outcome = Outcome { put: Some(credential), revoked: false },
                Change::Revoke(_) => outcome.revoked = true,
            }
        }
        if outcomes.values().all(|outcome| outcome.put.is_none()) {
            return self.revoke(version, outcomes.into_keys());
        }
        let id = self.id().ok_or(SnapshotError::Damaged)?;
        let mut writer = Writer::default();
        for record in self.records() {
            let digest = Digest::from_bytes(record.digest);
            // Those that are new come between those that are here.
            while let Some(next) = outcomes.first_entry().filter(|next| **next.key() < digest) {
                next.remove().write(id, &mut writer)?;
            }
            let view = self.view(record).ok_or(SnapshotError::Damaged)?;
            match outcomes.remove(&digest) {
                None => writer.add(&digest, &view)?,
                Some(Outcome { put: None, revoked }) => {
                    writer.add(&digest, &CredentialView { revoked: view.revoked || revoked, ..view })?;
                }
                Some(changed) => changed.write(id, &mut writer)?,
            }
        }
        for (_, outcome) in outcomes {
            outcome.write(id, &mut writer)?;
        }
        writer.finish(id, version)
    }

    /// The page with these credentials revoked: the same bytes but for their marks. This is the most urgent change and the
    /// most frequent, and takes a hundredth of what writing the page anew takes.
    fn revoke<'c>(
        &self,
        version: u64,
        digests: impl Iterator<Item = &'c Digest>,
    ) -> Result<Page<Vec<u8>>, SnapshotError> {
        let mut bytes = self.bytes().to_vec();
        let (header, rest) = Header::mut_from_prefix(&mut bytes).map_err(|_| SnapshotError::Damaged)?;
        header.version = version.into();
        let length = self.records.end - self.records.start;
        let records = rest.get_mut(..length).ok_or(SnapshotError::Damaged)?;
        let records = <[Record]>::mut_from_bytes(records).map_err(|_| SnapshotError::Damaged)?;
        for digest in digests {
            if let Ok(at) = records.binary_search_by(|record| record.digest.cmp(digest.as_bytes()))
                && let Some(record) = records.get_mut(at)
            {
                record.flags |= FLAG_REVOKED;
            }
        }
        set_page_crc(&mut bytes);
        Ok(Page { bytes, version, records: self.records.clone(), profiles: self.profiles.clone() })
    }

    /// All credentials as they stand here, with their digests, in the order of these.
    pub(super) fn views(&self) -> impl Iterator<Item = (Digest, CredentialView<'_>)> {
        self.records()
            .iter()
            .filter_map(|record| Some((Digest::from_bytes(record.digest), self.view(record)?)))
    }

    fn id(&self) -> Option<PageId> {
        let header = self.header()?;
        let installation = Uuid::from_bytes(header.installation);
        Some(PageId { installation, bits: header.bits, index: header.index.get() })
    }

    pub(super) fn check(bytes: B) -> Result<Self, SnapshotError> {
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

impl Outcome<'_> {
    /// Writes what is put, if anything is.
    fn write(self, id: PageId, writer: &mut Writer) -> Result<(), SnapshotError> {
        self.put.map_or(Ok(()), |put| writer.add_credential(id, put, put.revoked || self.revoked))
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
