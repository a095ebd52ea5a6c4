//! What gateways are given: the image of all keys, and the deltas that lead to it.
//!
//! Whoever changes a key holds the writer of the database, derives the next image from the present one, commits,
//! and publishes that very image. So the order of commits is the order of versions, and what a delta says is what
//! the image says.

mod log;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use omniflow_policy::policy::Policy;
use omniflow_policy::snapshot::{Change, Delta, Image, MAX_CHANGES_PER_DELTA, Manifest, SnapshotError};
use omniflow_policy::time::UnixMillis;
use tokio::sync::watch;
use uuid::Uuid;

use self::log::DeltaLog;

/// Images that are kept for gateways that take them. Each may hold pages of its own; whoever is still at an older one
/// polls again.
const MAX_OFFERED: usize = 8;
/// How long an image that was offered or taken from can be taken from again, in milliseconds.
const KEPT_AFTER_OFFER_MS: u64 = 120_000;
/// The highest version that a gateway may claim to hold, and that is published. Half of what a JSON number keeps
/// exactly; versions follow the clock in milliseconds and get there in the year 144,000.
pub(crate) const MAX_REPORTED_VERSION: u64 = 1 << 52;
/// How far ahead of the clock a version may be that a gateway claims to hold and that is passed for it, in
/// milliseconds. Whoever holds a gateway token can claim any.
pub(crate) const MAX_LEAD_MS: u64 = 24 * 3_600_000;

/// The published image. It is empty until the image has been built at start.
pub(crate) struct Publication {
    state: RwLock<Option<Published>>,
    version: watch::Sender<u64>,
}

/// The image is still being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image of all keys is still being built")]
pub(crate) struct NotReady;

/// A policy ready to match, and the number under which it is stored.
#[derive(Clone)]
pub(crate) struct NumberedPolicy {
    /// Its number.
    pub(crate) version: u64,
    /// What it says.
    pub(crate) policy: Arc<Policy>,
}

/// The next image, made but not yet published.
pub(crate) struct Draft {
    image: Image,
    /// The policy in it, where it is another than before.
    policy: Option<NumberedPolicy>,
    /// What leads to it; `None` if gateways must take it whole.
    delta: Option<Delta>,
}

/// What a poll is answered with.
pub(crate) enum Offer {
    /// The gateway holds the present version.
    Nothing,
    /// What follows the version it holds.
    Delta(Delta),
    /// The whole image; the gateway takes its chunks next.
    Image(Arc<Image>),
    /// The gateway holds a version that this control plane has not reached: the database was restored.
    Ahead,
    /// The gateway claims a version so far ahead of the clock that it is not passed.
    Implausible,
}

struct Published {
    image: Arc<Image>,
    policy: NumberedPolicy,
    log: DeltaLog,
    offered: HashMap<u64, Offered>,
}

struct Offered {
    image: Arc<Image>,
    last_touched: UnixMillis,
}

impl Publication {
    /// Nothing is published yet.
    pub(crate) fn empty() -> Self {
        Self { state: RwLock::new(None), version: watch::Sender::new(0) }
    }

    /// Publishes the image that was built at start.
    pub(crate) fn start(&self, image: Image, policy: Policy, policy_version: u64) {
        let version = image.manifest().version;
        let published = Published {
            image: Arc::new(image),
            policy: NumberedPolicy { version: policy_version, policy: Arc::new(policy) },
            log: DeltaLog::default(),
            offered: HashMap::new(),
        };
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Some(published);
        self.version.send_replace(version);
    }

    /// The version of the published image.
    pub(crate) fn version(&self) -> Result<u64, NotReady> {
        self.read(|published| published.image.manifest().version)
    }

    /// The policy in force and its version.
    pub(crate) fn policy(&self) -> Result<(Arc<Policy>, u64), NotReady> {
        self.read(|published| (Arc::clone(&published.policy.policy), published.policy.version))
    }

    /// Tells of every version that is published from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The published image.
    pub(crate) fn image(&self) -> Result<Arc<Image>, NotReady> {
        self.read(|published| Arc::clone(&published.image))
    }

    /// Publishes a draft whose change is committed, and wakes whoever waits for it.
    pub(crate) fn publish(&self, draft: Draft) {
        let version = draft.version();
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let Some(published) = state.as_mut() else { return };
            published.image = Arc::new(draft.image);
            if let Some(policy) = draft.policy {
                published.policy = policy;
            }
            match draft.delta {
                Some(delta) => published.log.push(delta),
                None => published.log = DeltaLog::default(),
            }
        }
        self.version.send_replace(version);
    }

    /// What a gateway needs that holds `version` of `installation`'s snapshot, 0 for none.
    pub(crate) fn offer(
        &self,
        installation: Option<Uuid>,
        version: u64,
        now: UnixMillis,
    ) -> Result<Offer, NotReady> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let published = state.as_mut().ok_or(NotReady)?;
        let current = published.image.manifest().version;
        if installation == Some(published.image.manifest().installation) && version != 0 {
            if version == current {
                return Ok(Offer::Nothing);
            }
            if version > current {
                let plausible = version <= now.0.saturating_add(MAX_LEAD_MS);
                return Ok(if plausible { Offer::Ahead } else { Offer::Implausible });
            }
            if let Some(delta) = published.log.since(version) {
                return Ok(Offer::Delta(delta));
            }
        }
        let image = Arc::clone(&published.image);
        published
            .offered
            .retain(|_, offered| now.0.saturating_sub(offered.last_touched.0) < KEPT_AFTER_OFFER_MS);
        let oldest = published
            .offered
            .iter()
            .min_by_key(|(_, offered)| offered.last_touched.0)
            .map(|(version, _)| *version);
        if let Some(oldest) = oldest.filter(|_| published.offered.len() >= MAX_OFFERED) {
            published.offered.remove(&oldest);
        }
        published.offered.insert(current, Offered { image: Arc::clone(&image), last_touched: now });
        Ok(Offer::Image(image))
    }

    /// An image that was offered, if it is still kept.
    pub(crate) fn offered(&self, version: u64, now: UnixMillis) -> Option<Arc<Image>> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let offered = state.as_mut()?.offered.get_mut(&version)?;
        offered.last_touched = now;
        Some(Arc::clone(&offered.image))
    }

    fn read<T>(&self, read: impl FnOnce(&Published) -> T) -> Result<T, NotReady> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.as_ref().map(read).ok_or(NotReady)
    }
}

// === impl Draft ===

impl Draft {
    /// Makes the image that follows from these changes. The caller holds the writer of the database from before it
    /// reads `image` until after [`Publication::publish`]. Most often this takes microseconds, but once in a while
    /// it makes all pages anew: call it off the threads that serve requests.
    ///
    /// Versions follow the clock and never fall back: a database restored from a backup must not count up through
    /// versions that gateways have seen with another content. `above` is a version that must be passed too.
    pub(crate) fn after(
        image: &Image,
        changes: Vec<Change>,
        policy: Option<NumberedPolicy>,
        now: UnixMillis,
        above: u64,
    ) -> Result<Self, SnapshotError> {
        let Manifest { installation, version: from, .. } = *image.manifest();
        let to = now.0.max(from.max(above).saturating_add(1));
        let document = policy.as_ref().map(|numbered| numbered.policy.document().to_json());
        let delta = Delta { installation, from, to, policy: document, changes };
        let next = image.apply(&delta)?;
        if next.is_crowded() {
            return Ok(Self { image: next.rebuild(to)?, policy, delta: None });
        }
        let fits = delta.changes.len() <= MAX_CHANGES_PER_DELTA;
        Ok(Self { image: next, policy, delta: fits.then_some(delta) })
    }

    /// The version under which this will be published.
    pub(crate) fn version(&self) -> u64 {
        self.image.manifest().version
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
    use omniflow_policy::snapshot::Credential;

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

    fn offer(publication: &Publication, version: u64) -> Offer {
        publication.offer(Some(INSTALLATION), version, UnixMillis(0)).unwrap()
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
        assert!(matches!(offer(&publication, 301), Offer::Ahead));
        assert!(matches!(offer(&publication, MAX_LEAD_MS), Offer::Ahead));
        assert!(matches!(offer(&publication, MAX_LEAD_MS + 1), Offer::Implausible));
        assert!(matches!(offer(&publication, 0), Offer::Image(_)));
        assert!(matches!(offer(&publication, 150), Offer::Image(_)), "no such version was published");
        let Offer::Delta(delta) = offer(&publication, 100) else { panic!("a delta leads on from 100") };
        assert_eq!((delta.from, delta.to, delta.changes.len()), (100, 300, 2));
        let foreign = publication.offer(Some(Uuid::nil()), 300, UnixMillis(0)).unwrap();
        assert!(matches!(foreign, Offer::Image(_)));
    }

    #[test]
    fn more_changes_than_a_delta_holds_are_taken_as_an_image() {
        let publication = publication();
        let changes = puts(0..u32::try_from(MAX_CHANGES_PER_DELTA).unwrap() + 1);
        publish(&publication, changes, 200);
        assert!(matches!(offer(&publication, 100), Offer::Image(_)));
        assert_eq!(publication.image().unwrap().len(), MAX_CHANGES_PER_DELTA + 1);
    }

    #[test]
    fn an_image_that_outgrows_its_pages_is_made_anew() {
        let publication = publication();
        let pages = |publication: &Publication| publication.image().unwrap().manifest().page_count();
        let before = pages(&publication);
        let mut next = 0;
        while pages(&publication) == before {
            publish(&publication, puts(next..next + 200), 0);
            next += 200;
            assert!(next < 100_000);
        }
        assert_eq!(publication.image().unwrap().len(), next as usize);
        let version = publication.version().unwrap();
        assert!(matches!(offer(&publication, version - 1), Offer::Image(_)));
        publish(&publication, puts(next..next + 1), 0);
        assert!(matches!(offer(&publication, version), Offer::Delta(_)));
    }
}
