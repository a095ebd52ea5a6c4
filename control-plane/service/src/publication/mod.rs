//! The data that gateways receive: the image of all keys, and the deltas that lead to it.
//!
//! A change holds the publisher's turn, derives the next image from the current one, commits, and publishes that image.
//! So versions follow the order of commits, and a delta always matches its image.

mod log;
mod times;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use omniflow_policy::policy::Policy;
use omniflow_policy::snapshot::{Change, Delta, Image, MAX_CHANGES_PER_DELTA, SnapshotError};
use omniflow_policy::time::UnixMillis;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use self::log::DeltaLog;
use self::times::PublicationTimes;

/// Maximum number of images that are kept for gateways that fetch them. Each may have its own segments; a gateway that
/// is still fetching an older image polls again.
const MAX_OFFERED: usize = 8;
/// How long an image can be fetched after it was last offered or fetched from, in milliseconds.
const KEPT_AFTER_OFFER_MS: u64 = 120_000;
/// How long an image is offered to other gateways too, even though a later one is published, in milliseconds. A gateway
/// needs less time to fetch it, and then continues with deltas.
const OFFERED_AGAIN_MS: u64 = 10_000;

/// The published image. It is empty until the image has been built at start.
pub struct Publication {
    state: RwLock<Option<Published>>,
    version: watch::Sender<u64>,
}

/// The image is still being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image of all keys is still being built")]
pub struct NotReady;

/// So much was published that the changes since an earlier image are no longer available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much has changed in the meantime")]
pub struct Overtaken;

/// Why an image cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// There is no image yet.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The changes since then are no longer available.
    #[error(transparent)]
    Overtaken(#[from] Overtaken),
    /// The changes do not fit the image.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// A policy ready to match, and the number under which it is stored.
#[derive(Clone)]
pub struct NumberedPolicy {
    /// Its number.
    pub version: u64,
    /// The policy.
    pub policy: Arc<Policy>,
}

/// The next image, which is not yet published.
pub(crate) struct Draft {
    image: Image,
    /// The policy in it, if it has changed.
    policy: Option<NumberedPolicy>,
    /// The deltas that lead to it; none if gateways must fetch the whole image.
    deltas: Vec<Delta>,
}

/// An image that gateways fetch, chunk by chunk.
pub struct OfferedImage {
    image: Arc<Image>,
    manifest: OnceLock<Bytes>,
}

/// The response to a poll.
pub enum Offer {
    /// The gateway has the current version.
    Nothing,
    /// The changes since the gateway's version.
    Delta(Delta),
    /// The whole image, and the published version, which may be later; the gateway fetches its chunks next.
    Image(Arc<OfferedImage>, u64),
    /// The gateway has a version that an earlier process may have published: the databases were replaced by an older copy.
    Superseded,
    /// The gateway reports a version that was never published.
    Unpublished,
}

struct Published {
    image: Arc<Image>,
    policy: NumberedPolicy,
    log: DeltaLog,
    times: PublicationTimes,
    offered: HashMap<u64, Offered>,
}

struct Offered {
    image: Arc<OfferedImage>,
    first_offered: UnixMillis,
    last_touched: UnixMillis,
}

impl Publication {
    /// Nothing is published yet.
    pub fn empty() -> Self {
        Self { state: RwLock::new(None), version: watch::Sender::new(0) }
    }

    /// Publishes the image that was built at start.
    pub(crate) fn start(&self, image: Image, policy: Policy, policy_version: u64) {
        let version = image.version();
        let published = Published {
            image: Arc::new(image),
            policy: NumberedPolicy { version: policy_version, policy: Arc::new(policy) },
            log: DeltaLog::default(),
            times: PublicationTimes::starting_at(version),
            offered: HashMap::new(),
        };
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Some(published);
        self.version.send_replace(version);
    }

    /// The version of the published image.
    pub fn version(&self) -> Result<u64, NotReady> {
        self.read(|published| published.image.version())
    }

    /// The policy in effect and its version.
    pub fn policy(&self) -> Result<(Arc<Policy>, u64), NotReady> {
        self.read(|published| (Arc::clone(&published.policy.policy), published.policy.version))
    }

    /// Signals every version that is published from now on.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The published image.
    pub fn image(&self) -> Result<Arc<Image>, NotReady> {
        self.read(|published| Arc::clone(&published.image))
    }

    /// Whether the published image has too many keys per segment.
    pub(crate) fn needs_repartition(&self) -> bool {
        self.read(|published| published.image.needs_repartition()).unwrap_or(false)
    }

    /// Publishes a draft whose change is committed, and wakes the tasks that wait for it.
    pub(crate) fn publish(&self, draft: Draft) {
        let version = draft.version();
        // Segments that only the previous image has are freed after the lock is released, because there may be many.
        let _former = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let Some(published) = state.as_mut() else { return };
            if draft.deltas.is_empty() {
                published.log = DeltaLog::default();
            }
            let credentials = draft.image.len();
            draft.deltas.iter().for_each(|delta| published.log.push(delta, credentials));
            if let Some(policy) = draft.policy {
                published.policy = policy;
            }
            published.times.push(version, Instant::now());
            std::mem::replace(&mut published.image, Arc::new(draft.image))
        };
        self.version.send_replace(version);
    }

    /// Applies all changes that were published since to an image that was published, or that has the same content.
    pub(crate) fn catch_up(&self, mut image: Image) -> Result<Image, PublicationError> {
        loop {
            let next = self.read(|published| {
                let is_current = image.version() == published.image.version();
                if is_current {
                    Ok(None)
                } else {
                    published.log.since(image.version()).map(Some).ok_or(Overtaken)
                }
            })?;
            match next? {
                Some(delta) => image = image.apply(&delta)?,
                None => return Ok(image),
            }
        }
    }

    /// What a gateway needs that holds `version` of `installation`'s snapshot, 0 for none. `enforced` is the highest
    /// version that one of its VMs enforces, which may be so though it asks for a whole image. `plausible` is the highest
    /// version that an earlier process may have published in a database that was since replaced by an older one.
    pub fn offer(
        &self,
        installation: Option<Uuid>,
        (version, enforced, plausible): (u64, u64, u64),
        now: UnixMillis,
    ) -> Result<Offer, NotReady> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let published = state.as_mut().ok_or(NotReady)?;
        let current = published.image.version();
        if installation == Some(published.image.installation()) && version != 0 {
            if version == current {
                return Ok(Offer::Nothing);
            }
            if version > current {
                return Ok(if version <= plausible { Offer::Superseded } else { Offer::Unpublished });
            }
            if let Some(delta) = published.log.since(version) {
                return Ok(Offer::Delta(delta));
            }
        }
        Ok(Offer::Image(published.whole(version.max(enforced), now), current))
    }

    /// An image that was offered, if it is still kept.
    pub(crate) fn offered(&self, version: u64, now: UnixMillis) -> Option<Arc<OfferedImage>> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let offered = state.as_mut()?.offered.get_mut(&version)?;
        offered.last_touched = now;
        Some(Arc::clone(&offered.image))
    }

    /// When the first version above `held` was published, if it is recent and at most `last`.
    pub fn first_published_between(&self, held: u64, last: u64) -> Option<Instant> {
        self.read(|published| published.times.first_between(held, last)).ok().flatten()
    }

    /// When the version `held` was replaced by the next one, if this process published both or started with `held`.
    pub fn superseded_at(&self, held: u64) -> Option<Instant> {
        self.read(|published| published.times.superseded_at(held)).ok().flatten()
    }

    fn read<T>(&self, read: impl FnOnce(&Published) -> T) -> Result<T, NotReady> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.as_ref().map(read).ok_or(NotReady)
    }
}

// === impl Published ===

impl Published {
    /// A whole image for a gateway, later than its own version: one that other gateways are already fetching, if it is
    /// recent and deltas continue from it. So even many gateways at once, while keys change, keep only a few images in
    /// memory.
    fn whole(&mut self, held: u64, now: UnixMillis) -> Arc<OfferedImage> {
        self.offered.retain(|_, offered| now.0.saturating_sub(offered.last_touched.0) < KEPT_AFTER_OFFER_MS);
        let current = self.image.version();
        let log = &self.log;
        let recent = self.offered.iter_mut().filter(|(version, offered)| {
            let is_recent = now.0.saturating_sub(offered.first_offered.0) < OFFERED_AGAIN_MS;
            **version == current || (is_recent && **version > held && log.leads_on_from(**version))
        });
        if let Some((_, offered)) = recent.max_by_key(|(version, _)| **version) {
            offered.last_touched = now;
            return Arc::clone(&offered.image);
        }
        let oldest = self.offered.iter().min_by_key(|(_, offered)| offered.last_touched.0);
        if let Some(oldest) =
            oldest.map(|(version, _)| *version).filter(|_| self.offered.len() >= MAX_OFFERED)
        {
            self.offered.remove(&oldest);
        }
        let image = Arc::new(OfferedImage { image: Arc::clone(&self.image), manifest: OnceLock::new() });
        let offered = Offered { image: Arc::clone(&image), first_offered: now, last_touched: now };
        self.offered.insert(current, offered);
        image
    }
}

// === impl OfferedImage ===

impl OfferedImage {
    /// The encoded manifest. Created once for all gateways that request it.
    pub fn manifest(&self) -> Bytes {
        self.manifest.get_or_init(|| self.image.manifest().encode().into()).clone()
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }
}

// === impl Draft ===

impl Draft {
    /// Derives the next image from these changes. The caller holds the publisher's turn from before it reads `image`
    /// until after [`Publication::publish`]. This usually takes about 100 µs, but the time grows with the number and
    /// the size of the segments that the changes touch, so do not call it on the threads that serve requests.
    ///
    /// Versions follow the clock and never decrease: a database restored from a backup must not reuse versions that
    /// gateways have seen with other content. The new version is also greater than `above`.
    pub(crate) fn after(
        image: &Image,
        changes: Vec<Change>,
        policy: Option<NumberedPolicy>,
        now: UnixMillis,
        above: u64,
    ) -> Result<Self, SnapshotError> {
        let (installation, held) = (image.installation(), image.version());
        let mut document = policy.as_ref().map(|numbered| numbered.policy.document().to_json());
        let mut changes = VecDeque::from(changes);
        let parts = changes.len().div_ceil(MAX_CHANGES_PER_DELTA).max(1) as u64;
        let last = now.0.max(held.max(above).saturating_add(parts));
        let mut next = image.clone();
        let mut deltas = Vec::new();
        // Changes that do not fit in one delta are split into several consecutive deltas.
        for part in 1..=parts {
            let from = next.version();
            let to = if part == parts { last } else { from.saturating_add(1) };
            let some = changes.drain(..changes.len().min(MAX_CHANGES_PER_DELTA)).collect();
            let delta = Delta { installation, from, to, policy: document.take(), changes: some };
            next = next.apply(&delta)?;
            deltas.push(delta);
        }
        Ok(Self { image: next, policy, deltas })
    }

    /// The same keys, in an image that gateways must fetch in full.
    pub(crate) fn whole(image: &Image, now: UnixMillis) -> Self {
        let version = now.0.max(image.version().saturating_add(1));
        Self { image: image.at_version(version), policy: None, deltas: Vec::new() }
    }

    /// The version under which this will be published.
    pub(crate) fn version(&self) -> u64 {
        self.image.version()
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::address::Allowlist;
    use omniflow_policy::digest::Digest;
    use omniflow_policy::key::Environment;
    use omniflow_policy::limit::RateLimit;
    use omniflow_policy::policy::PolicyDocument;
    use omniflow_policy::scope::ScopeSet;
    use omniflow_policy::snapshot::{Credential, Manifest};

    use super::*;

    const INSTALLATION: Uuid = Uuid::from_u128(7);

    fn publication() -> Publication {
        let publication = Publication::empty();
        let document = PolicyDocument::default();
        let image = Image::build(INSTALLATION, 100, &document, Vec::new()).unwrap();
        publication.start(image, Policy::compile(document).unwrap(), 1);
        publication
    }

    fn puts(numbers: std::ops::Range<u32>) -> Vec<Change> {
        numbers
            .map(|number| {
                Change::Put(Credential {
                    digest: Digest::of(&number.to_be_bytes()),
                    key_id: Uuid::from_u128(number.into()),
                    version: 1,
                    environment: Environment::Live,
                    revoked: false,
                    not_after: None,
                    name: format!("key {number}"),
                    scopes: ScopeSet::default(),
                    rate_limit: RateLimit::default(),
                    allowlist: Allowlist::default(),
                })
            })
            .collect()
    }

    fn publish(publication: &Publication, changes: Vec<Change>, now: u64) -> u64 {
        let draft = Draft::after(&publication.image().unwrap(), changes, None, UnixMillis(now), 0).unwrap();
        let version = draft.version();
        publication.publish(draft);
        version
    }

    /// The highest version that an earlier process may have published.
    const PLAUSIBLE: u64 = 1_000;

    fn offer(publication: &Publication, version: u64) -> Offer {
        publication.offer(Some(INSTALLATION), (version, 0, PLAUSIBLE), UnixMillis(0)).unwrap()
    }

    #[test]
    fn versions_follow_the_clock_and_never_fall() {
        let publication = publication();
        assert_eq!(publish(&publication, puts(0..1), 50), 101);
        assert_eq!(publish(&publication, puts(1..2), 5_000), 5_000);
        assert_eq!(publish(&publication, puts(2..3), 5_000), 5_001);
        let image = publication.image().unwrap();
        let above = Draft::after(&image, Vec::new(), None, UnixMillis(6_000), 9_000).unwrap();
        assert_eq!(above.version(), 9_001);
    }

    #[test]
    fn a_gateway_gets_what_it_lacks() {
        let publication = publication();
        publish(&publication, puts(0..1), 200);
        publish(&publication, puts(1..2), 300);
        assert!(matches!(offer(&publication, 300), Offer::Nothing));
        assert!(matches!(offer(&publication, 301), Offer::Superseded));
        assert!(matches!(offer(&publication, PLAUSIBLE), Offer::Superseded));
        assert!(matches!(offer(&publication, PLAUSIBLE + 1), Offer::Unpublished));
        assert!(matches!(offer(&publication, 0), Offer::Image(..)));
        assert!(matches!(offer(&publication, 150), Offer::Image(..)), "no such version was published");
        let Offer::Delta(delta) = offer(&publication, 100) else { panic!("a delta leads on from 100") };
        assert_eq!((delta.from, delta.to, delta.changes.len()), (100, 300, 2));
        let foreign = publication.offer(Some(Uuid::nil()), (300, 0, PLAUSIBLE), UnixMillis(0)).unwrap();
        assert!(matches!(foreign, Offer::Image(..)));
    }

    #[test]
    fn more_changes_than_a_delta_holds_are_several_deltas() {
        let publication = publication();
        let most = u32::try_from(MAX_CHANGES_PER_DELTA).unwrap();
        let version = publish(&publication, puts(0..2 * most + 1), 200);
        assert_eq!(version, 200);
        let (mut held, mut lengths) = (100, Vec::new());
        while let Offer::Delta(delta) = offer(&publication, held) {
            assert_eq!(delta.from, held);
            held = delta.to;
            lengths.push(delta.changes.len());
        }
        assert_eq!((held, lengths), (200, vec![MAX_CHANGES_PER_DELTA, MAX_CHANGES_PER_DELTA, 1]));
        assert_eq!(publication.image().unwrap().len(), 2 * MAX_CHANGES_PER_DELTA + 1);
        // Each of them has its own version, however close the clock is.
        assert_eq!(publish(&publication, puts(0..most + 1), 201), 202);
        assert!(matches!(offer(&publication, 201), Offer::Delta(_)));
    }

    fn image_version(offer: &Offer) -> u64 {
        let Offer::Image(image, _) = offer else { panic!("no image is offered") };
        assert_eq!(Manifest::decode(&image.manifest()).unwrap(), image.image().manifest());
        image.image().version()
    }

    #[test]
    fn many_gateways_at_once_take_few_images_while_keys_change() {
        let publication = publication();
        let at = |held, enforced, now| {
            publication.offer(None, (held, enforced, PLAUSIBLE), UnixMillis(now)).unwrap()
        };
        assert_eq!(image_version(&at(0, 0, 200)), 100);
        publish(&publication, puts(0..1), 200);
        assert_eq!(image_version(&at(0, 0, 200 + OFFERED_AGAIN_MS - 1)), 100, "a delta leads on from it");
        assert_eq!(image_version(&at(0, 100, 201)), 200, "not what a VM enforces already");
        assert!(matches!(at(0, 0, 202), Offer::Image(_, 200)), "the published version");
        assert_eq!(image_version(&at(0, 0, 202)), 200, "the latest of those that are taken");
        for number in 0..50 {
            publish(&publication, puts(number..number + 1), 0);
            at(0, 0, 203);
        }
        assert!(publication.offered(200, UnixMillis(300)).is_some(), "nobody is driven off");
        let version = publication.version().unwrap();
        assert_eq!(image_version(&at(0, 0, 203 + OFFERED_AGAIN_MS)), version);
    }

    #[test]
    fn a_crowded_image_is_made_anew_beside_and_catches_up() {
        let publication = publication();
        let segments = |image: &Image| image.manifest().segment_count();
        let mut next = 0;
        while !publication.needs_repartition() {
            publish(&publication, puts(next..next + 200), 0);
            next += 200;
            assert!(next < 100_000);
        }
        let before = publication.image().unwrap();
        let rebuilt = before.repartition().unwrap();
        assert!(segments(&rebuilt) > segments(&before));
        // Changes made while it is being built.
        publish(&publication, puts(next..next + 1), 0);
        publish(&publication, puts(next + 1..next + 300), 0);
        let caught_up = publication.catch_up(rebuilt).unwrap();
        let current = publication.image().unwrap();
        assert_eq!((caught_up.version(), caught_up.len()), (current.version(), next as usize + 300));
        for change in puts(0..next + 300) {
            assert!(caught_up.find(change.digest()).is_some());
        }
        let held = current.version();
        publication.publish(Draft::whole(&caught_up, UnixMillis(0)));
        assert_eq!(image_version(&offer(&publication, held)), held + 1);
        assert!(!publication.needs_repartition());
        publish(&publication, puts(0..1), 0);
        assert!(matches!(offer(&publication, held + 1), Offer::Delta(_)));
        assert!(publication.catch_up((*before).clone()).is_err(), "no delta leads on from before");
    }
}
