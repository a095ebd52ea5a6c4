//! All keys at one version.

use alloc::sync::Arc;
use alloc::vec::Vec;

use uuid::Uuid;

use super::credential::Credential;
use super::delta::Delta;
use super::manifest::{Manifest, PAGES_PER_CHUNK, PageSum};
use super::page::Page;
use super::page_layout::{HEADER_SIZE, Header};
use super::{SnapshotError, page_layout};
use crate::authorize::CredentialView;
use crate::digest::Digest;
use crate::policy::PolicyDocument;
use zerocopy::FromBytes;

/// An image. Images of successive versions share the pages that did not change, so that keeping an older one
/// while gateways fetch it costs little.
#[derive(Clone)]
pub struct Image {
    manifest: Manifest,
    pages: Vec<Arc<Page<Vec<u8>>>>,
}

impl Image {
    /// Makes an image. The same credentials give the same bytes, in whatever order they come.
    pub fn build(
        installation: Uuid,
        version: u64,
        policy: &PolicyDocument,
        credentials: Vec<Credential>,
    ) -> Result<Self, SnapshotError> {
        let page_bits = Manifest::page_bits_for(credentials.len());
        let pages = Digest::of(&[]);
        let manifest = Manifest { installation, version, page_bits, pages, policy: policy.to_json() };
        Self::assemble(manifest, credentials)
    }

    /// Fills a manifest whose sum of pages is not yet made.
    fn assemble(manifest: Manifest, credentials: Vec<Credential>) -> Result<Self, SnapshotError> {
        let mut sorted: Vec<Vec<Credential>> = (0..manifest.page_count()).map(|_| Vec::new()).collect();
        for credential in credentials {
            if let Some(page) = sorted.get_mut(manifest.page_of(&credential.digest) as usize) {
                page.push(credential);
            }
        }
        let pages = (0u32..)
            .zip(sorted)
            .map(|(index, credentials)| {
                Page::build(manifest.page_id(index), manifest.version, credentials).map(Arc::new)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { manifest, pages }.summed())
    }

    /// The image after a delta.
    pub fn apply(&self, delta: &Delta) -> Result<Self, SnapshotError> {
        if delta.installation != self.manifest.installation {
            return Err(SnapshotError::OtherInstallation);
        }
        if delta.from != self.manifest.version || delta.to <= delta.from {
            return Err(SnapshotError::Mismatch);
        }
        let mut next = self.clone();
        next.manifest.version = delta.to;
        if let Some(policy) = &delta.policy {
            next.manifest.policy.clone_from(policy);
        }
        for (index, changes) in delta.by_page(&self.manifest) {
            if let Some(page) = next.pages.get_mut(index as usize) {
                *page = Arc::new(page.apply(delta.to, changes)?);
            }
        }
        Ok(next.summed())
    }

    fn summed(mut self) -> Self {
        let mut sum = PageSum::default();
        self.pages.iter().for_each(|page| sum.add(page));
        self.manifest.pages = sum.finish();
        self
    }

    /// Whether the number of credentials has outgrown the number of pages, so that a new image is due.
    pub fn is_crowded(&self) -> bool {
        Manifest::page_bits_for(self.len() / 4) > self.manifest.page_bits
    }

    /// The same credentials in as many pages as suit them, at a later version.
    pub fn rebuild(&self, version: u64) -> Result<Self, SnapshotError> {
        let credentials: Vec<Credential> = self.pages.iter().flat_map(|page| page.credentials()).collect();
        let page_bits = Manifest::page_bits_for(credentials.len());
        Self::assemble(Manifest { version, page_bits, ..self.manifest.clone() }, credentials)
    }

    /// What it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many credentials it holds.
    pub fn len(&self) -> usize {
        self.pages.iter().map(|page| page.len()).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks a digest up.
    pub fn find(&self, digest: &Digest) -> Option<CredentialView<'_>> {
        self.pages.get(self.manifest.page_of(digest) as usize)?.find(digest)
    }

    /// The pages, each encoded.
    pub fn pages(&self) -> impl Iterator<Item = &[u8]> {
        self.pages.iter().map(|page| page.bytes())
    }

    /// The pages `n * PAGES_PER_CHUNK` and following, one behind the other; `None` behind the last.
    pub fn chunk(&self, n: u32) -> Option<Vec<u8>> {
        let start = n.checked_mul(PAGES_PER_CHUNK)? as usize;
        let pages = self.pages.get(start..)?;
        let chunk: Vec<u8> =
            pages.iter().take(PAGES_PER_CHUNK as usize).flat_map(|page| page.bytes()).copied().collect();
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// Splits a chunk into its pages, which are not yet checked.
pub fn split_chunk(chunk: &[u8]) -> Result<Vec<&[u8]>, SnapshotError> {
    let mut pages = Vec::new();
    let mut rest = chunk;
    while !rest.is_empty() {
        let (header, _) = Header::ref_from_prefix(rest).map_err(|_| SnapshotError::Damaged)?;
        let length = header.length.get() as usize;
        if header.magic != page_layout::MAGIC || length < HEADER_SIZE {
            return Err(SnapshotError::Damaged);
        }
        let (page, after) = rest.split_at_checked(length).ok_or(SnapshotError::Damaged)?;
        pages.push(page);
        rest = after;
    }
    Ok(pages)
}
