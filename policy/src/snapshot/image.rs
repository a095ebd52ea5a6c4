//! All keys at one version.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use uuid::Uuid;

use super::builder::ImageBuilder;
use super::credential::Credential;
use super::delta::Delta;
use super::manifest::{Manifest, PAGES_PER_CHUNK, PageSum};
use super::page::Page;
use super::page_id::{MAX_PAGE_BITS, page_index};
use super::page_layout::{HEADER_SIZE, Header};
use super::{SnapshotError, page_layout};
use crate::authorize::CredentialView;
use crate::digest::Digest;
use crate::policy::PolicyDocument;
use zerocopy::FromBytes;

/// An image. Images of successive versions share the chunks and pages that did not change, so that a change costs what it
/// touches, and keeping an older image while gateways fetch it costs little.
#[derive(Clone)]
pub struct Image {
    installation: Uuid,
    version: u64,
    page_bits: u8,
    policy: Arc<str>,
    chunks: Vec<Arc<Chunk>>,
    credentials: usize,
}

/// The pages that travel in one answer.
type Chunk = Vec<Arc<Page<Vec<u8>>>>;

impl Image {
    /// Makes an image. The same credentials give the same bytes, in whatever order they come.
    pub fn build(
        installation: Uuid,
        version: u64,
        policy: &PolicyDocument,
        credentials: Vec<Credential>,
    ) -> Result<Self, SnapshotError> {
        let mut builder = ImageBuilder::new(credentials.len());
        for credential in &credentials {
            let (scopes, networks) = (credential.scopes.joined(), credential.allowlist.to_bytes());
            builder.add_view(credential.digest, &credential.view(&scopes, &networks))?;
        }
        let pages = ImageBuilder::pages(&[builder], installation, version, 0..u32::MAX)?;
        Self::of_pages(installation, version, policy.to_json().into(), pages)
    }

    /// Makes an image of all its pages in order, as [`ImageBuilder::pages`] makes them. `policy` is the document in JSON.
    pub fn of_pages(
        installation: Uuid,
        version: u64,
        policy: Arc<str>,
        pages: Vec<Page<Vec<u8>>>,
    ) -> Result<Self, SnapshotError> {
        let page_bits = u8::try_from(pages.len().trailing_zeros()).unwrap_or(MAX_PAGE_BITS);
        if page_bits > MAX_PAGE_BITS || pages.len() != 1 << page_bits {
            return Err(SnapshotError::Mismatch);
        }
        let credentials = pages.iter().map(Page::len).sum();
        let mut chunks = Vec::new();
        let mut pages = pages.into_iter().map(Arc::new).peekable();
        while pages.peek().is_some() {
            chunks.push(Arc::new(pages.by_ref().take(PAGES_PER_CHUNK as usize).collect()));
        }
        Ok(Self { installation, version, page_bits, policy, chunks, credentials })
    }

    /// The image after a delta.
    pub fn apply(&self, delta: &Delta) -> Result<Self, SnapshotError> {
        if delta.installation != self.installation {
            return Err(SnapshotError::OtherInstallation);
        }
        if delta.from != self.version || delta.to <= delta.from {
            return Err(SnapshotError::Mismatch);
        }
        let mut next = self.clone();
        next.version = delta.to;
        if let Some(policy) = &delta.policy {
            next.policy = policy.as_str().into();
        }
        for (index, changes) in delta.by_page(self.page_bits) {
            let chunk = next.chunks.get_mut((index / PAGES_PER_CHUNK) as usize).map(Arc::make_mut);
            if let Some(page) = chunk.and_then(|chunk| chunk.get_mut((index % PAGES_PER_CHUNK) as usize)) {
                let changed = page.apply(delta.to, changes)?;
                next.credentials += changed.len() - page.len();
                *page = Arc::new(changed);
            }
        }
        Ok(next)
    }

    /// Whether the number of credentials has outgrown the number of pages, so that a new image is due.
    pub fn is_crowded(&self) -> bool {
        Manifest::page_bits_for(self.credentials / 4) > self.page_bits
    }

    /// The same credentials in as many pages as suit them, at the same version.
    pub fn rebuild(&self) -> Result<Self, SnapshotError> {
        let mut builder = ImageBuilder::new(self.credentials);
        for page in self.chunks.iter().flat_map(|chunk| chunk.iter()) {
            for (digest, view) in page.views() {
                builder.add_view(digest, &view)?;
            }
        }
        let pages = ImageBuilder::pages(&[builder], self.installation, self.version, 0..u32::MAX)?;
        Self::of_pages(self.installation, self.version, Arc::clone(&self.policy), pages)
    }

    /// The same image under a later version.
    pub fn at_version(&self, version: u64) -> Self {
        Self { version, ..self.clone() }
    }

    /// Whose keys these are.
    pub fn installation(&self) -> Uuid {
        self.installation
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What it holds. Made anew each time, of the checksums of all pages.
    pub fn manifest(&self) -> Manifest {
        let mut sum = PageSum::default();
        self.all_pages().for_each(|page| sum.add(page));
        Manifest {
            installation: self.installation,
            version: self.version,
            page_bits: self.page_bits,
            pages: sum.finish(),
            policy: String::from(&*self.policy),
        }
    }

    /// How many credentials it holds.
    pub fn len(&self) -> usize {
        self.credentials
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(test)]
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.chunks.iter()
    }

    /// Looks a digest up.
    pub fn find(&self, digest: &Digest) -> Option<CredentialView<'_>> {
        let index = page_index(digest, self.page_bits);
        let chunk = self.chunks.get((index / PAGES_PER_CHUNK) as usize)?;
        chunk.get((index % PAGES_PER_CHUNK) as usize)?.find(digest)
    }

    /// The pages, each encoded.
    pub fn pages(&self) -> impl Iterator<Item = &[u8]> {
        self.all_pages().map(Page::bytes)
    }

    fn all_pages(&self) -> impl Iterator<Item = &Page<Vec<u8>>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|page| &**page)
    }

    /// The pages `n * PAGES_PER_CHUNK` and following, which travel in one answer, one behind the other; `None` behind the
    /// last.
    pub fn chunk(&self, n: u32) -> Option<&[Arc<Page<Vec<u8>>>]> {
        self.chunks.get(n as usize).map(|chunk| chunk.as_slice())
    }

    /// The bytes of such a chunk, copied.
    pub fn chunk_bytes(&self, n: u32) -> Option<Vec<u8>> {
        Some(self.chunk(n)?.iter().flat_map(|page| page.bytes()).copied().collect())
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
