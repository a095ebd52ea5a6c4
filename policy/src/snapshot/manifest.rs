//! What stands before the pages of an image.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::page::Page;
use super::page_id::{MAX_PAGE_BITS, PageId, page_index};
use super::{SnapshotError, open, seal};
use crate::digest::{Digest, DigestStream};
use crate::policy::{Policy, PolicyDocument, PolicyError};

const MAGIC: [u8; 4] = *b"OMFM";
/// Pages that travel in one answer.
pub const PAGES_PER_CHUNK: u32 = 64;
/// Pages are made so many that each has about this number of records, 5 to 8 KB: small enough to be rebuilt for each
/// change and to be copied for one key, large enough that their heads do not count.
const RECORDS_PER_PAGE: usize = 64;

/// What an image holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The installation.
    pub installation: Uuid,
    /// The version.
    pub version: u64,
    /// Leading bits of a digest that number its page.
    pub page_bits: u8,
    /// SHA-256 over the checksums of all pages, in order: what binds the pages to this image. See [`PageSum`].
    pub pages: Digest,
    /// The policy document in JSON. Compiling it takes a while with many routes: see [`Manifest::policy`].
    pub policy: String,
}

impl Manifest {
    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        // Encoding into memory has no way to fail.
        seal(MAGIC, &postcard::to_allocvec(self).unwrap_or_default())
    }

    /// Reads a manifest whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let body = open(bytes, MAGIC)?;
        let (manifest, rest): (Self, _) =
            postcard::take_from_bytes(body).map_err(|_| SnapshotError::Damaged)?;
        if !rest.is_empty() || manifest.version == 0 || manifest.page_bits > MAX_PAGE_BITS {
            return Err(SnapshotError::Damaged);
        }
        Ok(manifest)
    }

    /// The policy, ready to match.
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        Policy::compile(PolicyDocument::from_json(self.policy.as_bytes())?)
    }

    /// The bits that suit so many credentials.
    pub fn page_bits_for(credentials: usize) -> u8 {
        let pages = credentials.div_ceil(RECORDS_PER_PAGE).max(1).next_power_of_two();
        u8::try_from(pages.trailing_zeros()).unwrap_or(MAX_PAGE_BITS).min(MAX_PAGE_BITS)
    }

    /// How many pages the image has.
    pub fn page_count(&self) -> u32 {
        1 << self.page_bits.min(MAX_PAGE_BITS)
    }

    /// How many chunks the pages travel in.
    pub fn chunk_count(&self) -> u32 {
        self.page_count().div_ceil(PAGES_PER_CHUNK)
    }

    /// The page that holds a digest, if it exists.
    pub fn page_of(&self, digest: &Digest) -> u32 {
        page_index(digest, self.page_bits)
    }

    /// What a page of this image says of itself.
    pub fn page_id(&self, index: u32) -> PageId {
        PageId { installation: self.installation, bits: self.page_bits, index }
    }
}

/// Sums up the pages of an image as they come.
#[derive(Clone, Default)]
pub struct PageSum(DigestStream);

impl PageSum {
    /// Adds the next page.
    pub fn add<B: AsRef<[u8]>>(&mut self, page: &Page<B>) {
        self.0.update(&page.checksum().to_le_bytes());
    }

    /// What stands in the manifest.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}
