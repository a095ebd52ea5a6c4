//! Commits changes and publishes them: builds the image of all keys at start, and derives the next one for each change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use omniflow_domain::clock::Clock;
use omniflow_domain::version::{MAX_CLOCK_DIFFERENCE_MS, MAX_REPORTED_VERSION};
use omniflow_policy::policy::{Policy, PolicyError};
use omniflow_policy::snapshot;
use omniflow_policy::snapshot::{Image, ImageBuilder, Segment, SnapshotError};
use omniflow_policy::time::UnixMillis;
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::publication::{Draft, NotReady, NumberedPolicy, Publication, PublicationError};
use omniflow_store::{CredentialsError, Installation, Store, StoreError, Transaction};

/// Maximum number of threads that read keys, and that build segments from them, when the image is built.
const MAX_BUILDERS: usize = 4;

/// Minimum time between two versions that are published only because a gateway was ahead.
const PASS_INTERVAL: Duration = Duration::from_secs(1);

/// Why the image cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store cannot be read.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// The stored policy does not compile.
    #[error("the stored policy is invalid: {0}")]
    Policy(#[from] PolicyError),
    /// The stored keys do not form a valid image.
    #[error("the image cannot be built: {0}")]
    Snapshot(#[from] SnapshotError),
}

impl From<CredentialsError> for BuildError {
    fn from(error: CredentialsError) -> Self {
        match error {
            CredentialsError::Storage(error) => error.into(),
            CredentialsError::Snapshot(error) => error.into(),
        }
    }
}

/// Why a change was not published. It was not committed either.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The store cannot be written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// There is no image yet.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The changes do not fit the image.
    #[error("the next image cannot be built: {0}")]
    Snapshot(#[from] SnapshotError),
    /// No gateway could report this version when it polls.
    #[error("version {0} is higher than any that gateways accept: check the clock")]
    VersionOutOfRange(u64),
    /// The process is ending.
    #[error("the next image was not built: {0}")]
    Ended(#[from] JoinError),
    /// An image that was built in the background cannot catch up with the changes.
    #[error(transparent)]
    Publication(#[from] PublicationError),
}

/// Commits changes and publishes them to gateways, in one order.
pub struct Publisher {
    store: Arc<dyn Store>,
    /// The installation.
    pub installation: Installation,
    /// The data for gateways.
    pub publication: Publication,
    clock: Clock,
    /// When this process began.
    began: UnixMillis,
    /// When the published version was published, in Unix milliseconds.
    published_at: AtomicU64,
    /// Notified when the image has too many keys per segment.
    needs_repartition: Notify,
    /// When a version was last published only because a gateway was ahead.
    last_pass: Mutex<Option<Instant>>,
    /// Held from before a change begins until it is published. See [`Publisher::turn`].
    turn: Mutex<()>,
}

// === impl Publisher ===

impl Publisher {
    /// Publishes nothing until the image is built.
    pub fn new(store: Arc<dyn Store>, installation: Installation, clock: Clock) -> Self {
        let (needs_repartition, last_pass) = (Notify::new(), Mutex::new(None));
        let published_at = AtomicU64::new(installation.published_at.0);
        Self {
            store,
            installation,
            publication: Publication::empty(),
            began: clock.now(),
            clock,
            published_at,
            needs_repartition,
            last_pass,
            turn: Mutex::new(()),
        }
    }

    /// When the published version was published.
    pub fn published_at(&self) -> UnixMillis {
        UnixMillis(self.published_at.load(Ordering::Relaxed))
    }

    /// The highest version that a gateway can hold although this process has not published it. Versions follow the clock, so
    /// it was published before this process began, by one whose database has since been replaced by an older copy.
    /// Anyone with a gateway token can report any other version, so higher versions are refused.
    pub(crate) fn highest_plausible_version(&self) -> u64 {
        self.began.0.saturating_add(MAX_CLOCK_DIFFERENCE_MS)
    }

    /// Waits until no other change is between its transaction and its publication. Changes that are published, and
    /// those whose response is cached for a retry, hold this from before their transaction begins until they are done,
    /// so that they are published in the order of their commits.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Builds the image from the rows and publishes it. Takes a while with many keys: call it off the threads that
    /// serve requests. No change of a key can be committed before it is done.
    pub async fn build_image(&self) -> Result<(), BuildError> {
        let began = Instant::now();
        let (store, version) = (&*self.store, self.installation.snapshot_version);
        let policy = store.policy().await?;
        let credentials = store.version_count().await?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_BUILDERS);
        let read = (0..threads).map(async |part| {
            let mut builder = ImageBuilder::new(credentials);
            store.read_credentials(part, threads, &mut builder).await?;
            Ok::<_, BuildError>(builder)
        });
        let builders = try_join_all(read).await?;
        let segments = segments(&builders, self.installation.id, version)?;
        drop(builders);
        let document = policy.document.to_json().into();
        let image = Image::from_segments(self.installation.id, version, document, segments)?;
        tracing::info!(version, credentials, took = ?began.elapsed(), "image built");
        self.publication.start(image, Policy::compile(policy.document)?, policy.version);
        Ok(())
    }

    /// Commits a transaction and publishes its changes for gateways; returns the version.
    pub async fn commit(
        &self,
        transaction: Box<dyn Transaction>,
        changes: Vec<snapshot::Change>,
    ) -> Result<u64, PublishError> {
        self.commit_above(transaction, changes, None, 0).await
    }

    /// Commits a transaction that added this policy, and publishes it; returns the version of the image.
    pub(crate) async fn commit_policy(
        &self,
        transaction: Box<dyn Transaction>,
        policy: NumberedPolicy,
    ) -> Result<u64, PublishError> {
        self.commit_above(transaction, Vec::new(), Some(policy), 0).await
    }

    /// Publishes the current image under a version above `held`, unless that has already happened.
    pub(crate) async fn pass_version(&self, held: u64) -> Result<(), PublishError> {
        let mut last = self.last_pass.lock().await;
        if self.publication.version()? > held {
            return Ok(());
        }
        // Each one is a new version for all gateways, and brings back all gateways that are behind the clock.
        if let Some(last) = *last {
            sleep_until(last + PASS_INTERVAL).await;
        }
        *last = Some(Instant::now());
        let _turn = self.turn().await;
        if self.publication.version()? > held {
            return Ok(());
        }
        let version = self.commit_above(self.store.begin().await?, Vec::new(), None, held).await?;
        tracing::warn!(
            held,
            version,
            "gateway ahead of the control plane, database was probably replaced by an older copy"
        );
        Ok(())
    }

    async fn commit_above(
        &self,
        transaction: Box<dyn Transaction>,
        changes: Vec<snapshot::Change>,
        policy: Option<NumberedPolicy>,
        above: u64,
    ) -> Result<u64, PublishError> {
        let image = self.publication.image()?;
        let now = self.clock.now();
        let draft = spawn_blocking(move || Draft::after(&image, changes, policy, now, above)).await??;
        self.commit_draft(transaction, draft).await
    }

    async fn commit_draft(
        &self,
        mut transaction: Box<dyn Transaction>,
        draft: Draft,
    ) -> Result<u64, PublishError> {
        let version = draft.version();
        if version > MAX_REPORTED_VERSION {
            return Err(PublishError::VersionOutOfRange(version));
        }
        let now = self.clock.now();
        transaction.set_snapshot_version(version, now).await?;
        transaction.commit().await?;
        self.published_at.store(now.0, Ordering::Relaxed);
        self.publication.publish(draft);
        if self.publication.needs_repartition() {
            self.needs_repartition.notify_one();
        }
        Ok(version)
    }

    /// Completes when a change has left the image with too many keys per segment.
    pub(crate) async fn until_repartition_needed(&self) {
        self.needs_repartition.notified().await;
    }

    /// Repartitions an image that has too many keys per segment into more segments, and publishes it under a later
    /// version. Changes are possible meanwhile; the new image catches up with them before it is published.
    pub(crate) async fn repartition(&self) -> Result<(), PublishError> {
        let image = self.publication.image()?;
        if !image.needs_repartition() {
            return Ok(());
        }
        let mut next = spawn_blocking(move || image.repartition()).await??;
        next = self.publication.catch_up(next)?;
        let _turn = self.turn().await;
        next = self.publication.catch_up(next)?;
        let draft = Draft::whole(&next, self.clock.now());
        let (version, credentials) = (draft.version(), next.len());
        drop(next);
        self.commit_draft(self.store.begin().await?, draft).await?;
        tracing::info!(version, credentials, "image repartitioned, gateways download all of it");
        Ok(())
    }
}

/// Builds all segments from the contents of the builders, with one thread per builder.
fn segments(
    builders: &[ImageBuilder],
    installation: Uuid,
    version: u64,
) -> Result<Vec<Segment<Vec<u8>>>, SnapshotError> {
    let count = builders.first().map_or(0, ImageBuilder::segment_count);
    let parts = u32::try_from(builders.len()).unwrap_or(1).max(1);
    let part = count.div_ceil(parts).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parts)
            .map(|number| number * part..((number + 1) * part).min(count))
            .map(|range| scope.spawn(|| ImageBuilder::segments(builders, installation, version, range)))
            .collect();
        let mut segments = Vec::with_capacity(count as usize);
        for thread in threads {
            // A panic in a thread is a defect, so this thread panics too.
            segments.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(segments)
    })
}
