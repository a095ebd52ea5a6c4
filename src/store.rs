//! This VM's view of the snapshot.
//!
//! The pages lie in shared data; a VM copies and checks one when a request first needs it, and drops its copy when
//! the page changes. Thus a VM starts without the network, a change costs it nothing but the pages it touches, and
//! dropping copies is all that enforcing a new version takes. Of a large image a VM holds as many copies as its room
//! allows ([`PageCache`]).

use std::time::Duration;

use omniflow_policy::authorize::CredentialView;
use omniflow_policy::digest::Digest;
use omniflow_policy::policy::Policy;
use omniflow_policy::snapshot::{Manifest, Segment};
use omniflow_policy::time::MonotonicNanos;

use crate::abi::LogLevel;
use crate::host;
use crate::page_cache::PageCache;
use crate::shared::{self, Head, Names};

/// How long after its last tick a VM no longer trusts that it would have heard of a change.
const OVERDUE: Duration = Duration::from_secs(1);

/// The snapshot as this VM sees it.
pub(crate) struct Store {
    names: Names,
    held: Option<Held>,
    refreshed: MonotonicNanos,
    /// Bytes of copies of pages.
    room: usize,
}

struct Held {
    head: Head,
    manifest: Manifest,
    policy: Policy,
    pages: PageCache,
}

/// The pages, for one look-up.
pub(crate) struct Pages<'s> {
    names: &'s Names,
    slot: u8,
    manifest: &'s Manifest,
    pages: &'s mut PageCache,
}

/// A page that should be in shared data is missing or damaged.
pub(crate) struct PageUnavailable;

impl Store {
    /// A view of what lies under these names, with `room` bytes for copies of pages.
    pub(crate) fn new(names: Names, room: usize) -> Self {
        Self { names, held: None, refreshed: MonotonicNanos(0), room }
    }

    /// The version that this VM enforces; 0 for none.
    pub(crate) fn version(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.head.version)
    }

    /// The same at a tick.
    pub(crate) fn tick(&mut self, now: MonotonicNanos) {
        self.refreshed = now;
        self.refresh();
    }

    /// Takes over whatever head lies in shared data. All page copies are dropped if it is another version.
    pub(crate) fn refresh(&mut self) {
        self.advance(None);
    }

    /// Takes over whatever head lies in shared data. If that is the version `to` and this VM is at `from`, only
    /// `pages` differ; a VM that heard of it late, when the next version is there, drops all copies.
    pub(crate) fn refresh_pages(&mut self, from: u64, to: u64, pages: &[u32]) {
        self.advance(Some((from, to, pages)));
    }

    fn advance(&mut self, change: Option<(u64, u64, &[u32])>) {
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
                Some((from, to, changed)) if from == held.head.version && to == head.version => {
                    changed.iter().for_each(|index| held.pages.forget(*index));
                }
                _ => held.pages.clear(),
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
        let policy = match manifest.policy() {
            Ok(policy) => policy,
            Err(error) => {
                host::log(LogLevel::Error, &format!("the policy in shared data is unusable: {error}"));
                return false;
            }
        };
        match &mut self.held {
            Some(held)
                if held.head.slot == head.slot && held.manifest.segment_bits == manifest.segment_bits =>
            {
                held.manifest = manifest;
                held.policy = policy;
            }
            held => {
                let pages = PageCache::new(manifest.segment_count(), self.room);
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
        max_age: Option<Duration>,
    ) -> Option<(&Policy, Pages<'_>)> {
        // A VM that has just been reloaded may have a request before its first tick. And one whose thread was held up
        // may have requests before its next tick, while the others no longer count it among the living.
        if self.held.is_none() || now.since(self.refreshed) > OVERDUE {
            self.refresh();
        }
        let held = self.held.as_mut()?;
        if max_age.is_some_and(|max| now.since(MonotonicNanos(held.head.confirmed)) > max) {
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
        let Self { names, slot, manifest, pages } = self;
        let index = manifest.segment_of(digest);
        let page = pages.get(index, || {
            let bytes = shared::get(&names.page(slot, index)).value.ok_or(PageUnavailable)?;
            Segment::parse(bytes, manifest.segment_id(index)).map_err(|error| {
                host::log(LogLevel::Error, &format!("page {index} in shared data is unusable: {error}"));
                PageUnavailable
            })
        })?;
        let page = page.ok_or(PageUnavailable)?;
        Ok(page.find(digest))
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::address::Allowlist;
    use omniflow_policy::gateway::Incarnation;
    use omniflow_policy::key::Environment;
    use omniflow_policy::limit::RateLimit;
    use omniflow_policy::policy::PolicyDocument;
    use omniflow_policy::scope::ScopeSet;
    use omniflow_policy::snapshot::{Change, Credential, Delta, Image};
    use uuid::Uuid;

    use super::*;

    /// For all pages.
    const ROOM: usize = 1 << 20;
    const NOW: MonotonicNanos = MonotonicNanos(1_000_000_000);

    fn credential(number: u32) -> Credential {
        Credential {
            digest: Digest::of(&number.to_le_bytes()),
            key_id: Uuid::from_u128(number.into()),
            version: 1,
            environment: Environment::Live,
            revoked: false,
            not_after: None,
            name: format!("key-{number}"),
            scopes: ScopeSet::default(),
            rate_limit: RateLimit::default(),
            allowlist: Allowlist::default(),
        }
    }

    fn image(version: u64) -> Image {
        let credentials = (0..2_000).map(credential).collect();
        match Image::build(Uuid::from_u128(1), version, &PolicyDocument::default(), credentials) {
            Ok(image) => image,
            Err(error) => panic!("{error}"),
        }
    }

    fn write(name: &str, value: &[u8]) {
        assert_eq!(shared::swap(name, &shared::get(name), value), Ok(()));
    }

    /// Puts an image into shared data as a leader does: pages, manifest, head.
    fn publish(names: &Names, image: &Image, slot: u8) {
        for (index, page) in (0..).zip(image.segments()) {
            write(&names.page(slot, index), page);
        }
        write(&names.manifest(slot), &image.manifest().encode());
        let version = image.manifest().version;
        let head =
            Head { process: Incarnation(1), slot, version, manifest_version: version, confirmed: NOW.0 };
        let read = shared::get_as(&names.head());
        assert_eq!(shared::swap_as(&names.head(), &read, &head), Ok(()));
    }

    /// Revokes a key in shared data, as a leader does with a delta; gives the page that has changed.
    fn revoke(names: &Names, image: &mut Image, number: u32) -> u32 {
        let from = image.manifest().version;
        let changes = vec![Change::Revoke(credential(number).digest)];
        let delta = Delta { installation: Uuid::from_u128(1), from, to: from + 1, policy: None, changes };
        *image = image.apply(&delta).unwrap_or_else(|error| panic!("{error}"));
        let page = image.manifest().segment_of(&credential(number).digest);
        write(&names.page(0, page), image.segments().nth(page as usize).unwrap_or_default());
        let read = shared::get_as::<Head>(&names.head());
        let head = read.value.unwrap_or_else(|| panic!("no head"));
        assert_eq!(shared::swap_as(&names.head(), &read, &Head { version: from + 1, ..head }), Ok(()));
        page
    }

    fn is_revoked(store: &mut Store, number: u32) -> bool {
        let Some((_, pages)) = store.open(NOW, None) else { panic!("no snapshot") };
        match pages.find(&credential(number).digest) {
            Ok(Some(key)) => key.revoked,
            _ => panic!("key {number} is not found"),
        }
    }

    /// Two keys on different pages.
    fn apart(image: &Image) -> (u32, u32) {
        let page = |number| image.manifest().segment_of(&credential(number).digest);
        let other = (1..).find(|number| page(*number) != page(0));
        (0, other.unwrap_or_default())
    }

    #[test]
    fn a_vm_that_hears_late_takes_no_stale_page_for_current() {
        let names = Names::new("late");
        let mut image = image(10);
        publish(&names, &image, 0);
        let (first, second) = apart(&image);
        let mut store = Store::new(names.clone(), ROOM);
        store.tick(NOW);
        assert!(!is_revoked(&mut store, first) && !is_revoked(&mut store, second), "both pages are copied");
        let page = revoke(&names, &mut image, first);
        let other_page = revoke(&names, &mut image, second);
        assert_ne!(page, other_page);
        // The message of the first change comes when the second is in shared data.
        store.refresh_pages(10, 11, &[page]);
        assert_eq!(store.version(), 12);
        assert!(is_revoked(&mut store, first) && is_revoked(&mut store, second));
    }

    #[test]
    fn only_changed_pages_are_dropped_where_that_is_known() {
        let names = Names::new("some");
        let mut image = image(10);
        publish(&names, &image, 0);
        let (first, second) = apart(&image);
        let mut store = Store::new(names.clone(), ROOM);
        store.tick(NOW);
        assert!(!is_revoked(&mut store, first) && !is_revoked(&mut store, second));
        let page = revoke(&names, &mut image, first);
        store.refresh_pages(10, 11, &[page]);
        let copies = store.held.as_ref().map(|held| held.pages.len());
        assert_eq!((store.version(), copies), (11, Some(1)));
        assert!(is_revoked(&mut store, first));
    }

    #[test]
    fn a_change_that_nobody_told_of_is_seen_at_the_tick_and_by_an_overdue_request() {
        let names = Names::new("untold");
        let mut image = image(10);
        publish(&names, &image, 0);
        let mut store = Store::new(names.clone(), ROOM);
        store.tick(NOW);
        assert!(!is_revoked(&mut store, 1));
        revoke(&names, &mut image, 1);
        let later = MonotonicNanos(NOW.0 + 1_100_000_000);
        let Some((_, pages)) = store.open(later, None) else { panic!("no snapshot") };
        assert!(matches!(pages.find(&credential(1).digest), Ok(Some(key)) if key.revoked));
        revoke(&names, &mut image, 2);
        store.tick(later);
        assert!(is_revoked(&mut store, 2));
    }

    #[test]
    fn a_full_image_in_the_other_slot_replaces_everything() {
        let names = Names::new("slots");
        let mut first = image(10);
        publish(&names, &first, 0);
        let mut store = Store::new(names.clone(), ROOM);
        store.tick(NOW);
        assert!(!is_revoked(&mut store, 3));
        revoke(&names, &mut first, 3);
        publish(&names, &first.repartition().unwrap_or_else(|error| panic!("{error}")).at_version(20), 1);
        store.refresh();
        assert_eq!(store.version(), 20);
        assert!(is_revoked(&mut store, 3));
    }

    #[test]
    fn a_missing_or_damaged_page_is_no_unknown_key() {
        let names = Names::new("damaged");
        let image = image(10);
        publish(&names, &image, 0);
        let page = image.manifest().segment_of(&credential(0).digest);
        for damage in [&b""[..], b"garbage"] {
            write(&names.page(0, page), damage);
            let mut store = Store::new(names.clone(), ROOM);
            let Some((_, pages)) = store.open(NOW, None) else { panic!("no snapshot") };
            assert!(pages.find(&credential(0).digest).is_err());
        }
    }

    #[test]
    fn a_vm_with_room_for_one_page_finds_every_key_and_takes_no_stale_page_for_current() {
        let names = Names::new("small");
        let mut image = image(10);
        publish(&names, &image, 0);
        let mut store = Store::new(names.clone(), 1);
        store.tick(NOW);
        assert!((0..2_000).all(|number| !is_revoked(&mut store, number)));
        let page = revoke(&names, &mut image, 1_500);
        store.refresh_pages(10, 11, &[page]);
        assert!((0..2_000).all(|number| is_revoked(&mut store, number) == (number == 1_500)));
    }

    #[test]
    fn a_snapshot_that_nobody_confirmed_for_too_long_is_not_used() {
        let names = Names::new("old");
        publish(&names, &image(10), 0);
        let mut store = Store::new(names, ROOM);
        let later = MonotonicNanos(NOW.0 + 31_000_000_000);
        assert!(store.open(later, Some(Duration::from_secs(30))).is_none());
        assert!(store.open(later, Some(Duration::from_secs(32))).is_some());
        assert!(store.open(later, None).is_some());
    }
}
