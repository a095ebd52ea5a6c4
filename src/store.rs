//! This VM's view of the snapshot.
//!
//! The pages lie in shared data; a VM copies and checks one when a request first needs it, and drops its copy when
//! the page changes. Thus a VM starts without the network, a change costs it nothing but the pages it touches, and
//! dropping copies is all that enforcing a new version takes.

use omniflow_policy::authorize::CredentialView;
use omniflow_policy::digest::Digest;
use omniflow_policy::policy::Policy;
use omniflow_policy::snapshot::{Manifest, Page};
use omniflow_policy::time::MonotonicNanos;
use proxy_wasm::types::LogLevel;

use crate::host;
use crate::shared::{self, Head, Names};

/// The snapshot as this VM sees it.
pub(crate) struct Store {
    names: Names,
    held: Option<Held>,
}

struct Held {
    head: Head,
    manifest: Manifest,
    policy: Policy,
    pages: Vec<Option<Page<Vec<u8>>>>,
}

/// The pages, for one look-up.
pub(crate) struct Pages<'s> {
    names: &'s Names,
    slot: u8,
    manifest: &'s Manifest,
    pages: &'s mut Vec<Option<Page<Vec<u8>>>>,
}

/// A page that should be in shared data is missing or damaged.
pub(crate) struct PageUnavailable;

impl Store {
    pub(crate) fn new(names: Names) -> Self {
        Self { names, held: None }
    }

    /// The version that this VM enforces; 0 for none.
    pub(crate) fn version(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.head.version)
    }

    /// Takes over whatever head lies in shared data. All page copies are dropped if it is another version.
    pub(crate) fn refresh(&mut self) {
        self.advance(None);
    }

    /// Takes over the version `to`, of which only `pages` differ from `from`.
    pub(crate) fn refresh_pages(&mut self, from: u64, pages: &[u32]) {
        self.advance(Some((from, pages)));
    }

    fn advance(&mut self, change: Option<(u64, &[u32])>) {
        let Some(head) = shared::get_as::<Head>(&self.names.head()).value.filter(|head| head.version != 0)
        else {
            return;
        };
        let same_manifest = self.held.as_ref().is_some_and(|held| {
            held.head.slot == head.slot && held.head.manifest_version == head.manifest_version
        });
        if !same_manifest && !self.load_manifest(head) {
            return;
        }
        let Some(held) = &mut self.held else { return };
        if held.head.version != head.version {
            match change {
                Some((from, changed)) if from == held.head.version => {
                    for index in changed {
                        if let Some(page) = held.pages.get_mut(*index as usize) {
                            *page = None;
                        }
                    }
                }
                _ => held.pages.iter_mut().for_each(|page| *page = None),
            }
        }
        held.head = head;
    }

    /// Reads manifest and policy; page copies stay where they still belong to the same image.
    fn load_manifest(&mut self, head: Head) -> bool {
        let Some(bytes) = shared::get(&self.names.manifest(head.slot)).value else {
            return false;
        };
        let manifest = match Manifest::decode(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                host::log(LogLevel::Error, &format!("the manifest in shared data is unusable: {error}"));
                return false;
            }
        };
        let policy = match Policy::compile(manifest.policy.clone()) {
            Ok(policy) => policy,
            Err(error) => {
                host::log(LogLevel::Error, &format!("the policy in shared data is unusable: {error}"));
                return false;
            }
        };
        match &mut self.held {
            Some(held) if held.head.slot == head.slot && held.manifest.page_bits == manifest.page_bits => {
                held.manifest = manifest;
                held.policy = policy;
            }
            held => {
                let pages = (0..manifest.page_count()).map(|_| None).collect();
                // Version 0 until the caller has taken over the head, so that it drops what it must.
                *held = Some(Held { head: Head { version: 0, ..head }, manifest, policy, pages });
            }
        }
        true
    }

    /// Policy and pages for one decision; `None` where there is no snapshot, or none that is young enough.
    pub(crate) fn open(
        &mut self,
        now: MonotonicNanos,
        max_age: Option<std::time::Duration>,
    ) -> Option<(&Policy, Pages<'_>)> {
        if self.held.is_none() {
            // A VM that has just been reloaded may have a request before its first tick.
            self.refresh();
        }
        let held = self.held.as_mut()?;
        let age = now.0.saturating_sub(held.head.confirmed);
        if max_age.is_some_and(|max| u128::from(age) > max.as_nanos()) {
            return None;
        }
        let pages = Pages {
            names: &self.names,
            slot: held.head.slot,
            manifest: &held.manifest,
            pages: &mut held.pages,
        };
        Some((&held.policy, pages))
    }
}

impl<'s> Pages<'s> {
    /// Looks a digest up, loading its page if this VM has no copy.
    pub(crate) fn find(self, digest: &Digest) -> Result<Option<CredentialView<'s>>, PageUnavailable> {
        let index = self.manifest.page_of(digest);
        let slot = self.pages.get_mut(index as usize).ok_or(PageUnavailable)?;
        let page = match slot {
            Some(page) => page,
            empty => {
                let bytes = shared::get(&self.names.page(self.slot, index)).value.ok_or(PageUnavailable)?;
                let page = Page::parse(bytes, self.manifest.page_id(index)).map_err(|error| {
                    host::log(LogLevel::Error, &format!("page {index} in shared data is unusable: {error}"));
                    PageUnavailable
                })?;
                empty.insert(page)
            }
        };
        Ok(page.find(digest))
    }
}
