//! What every handler works with.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use omniflow_policy::policy::{Policy, PolicyError};
use omniflow_policy::snapshot;
use omniflow_policy::snapshot::{Image, ImageBuilder, Segment, SnapshotError};
use omniflow_policy::time::UnixMillis;
use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::admission::Admission;
use crate::clock::{Clock, Entropy};
use crate::configuration::SettingInForce;
use crate::fleet::Fleet;
use crate::http::{Answers, Followed, KeyCounts, Throttle};
use crate::known_tokens::KnownTokens;
use crate::memory;
use crate::otlp::Exporter;
use crate::publication::{
    Draft, MAX_REPORTED_VERSION, NotReady, NumberedPolicy, Publication, PublicationError,
};
use crate::storage::{CredentialsError, Installation, Storage, StorageError, Transaction};
use crate::vault::Vault;
use crate::webhook::Webhook;

/// The most threads that read keys, and that make pages of them, when the image is built.
const MAX_BUILDERS: usize = 4;

/// The least time between two versions that are published only because a gateway was ahead.
const PASS_INTERVAL: Duration = Duration::from_secs(1);

/// The running control plane.
pub(crate) struct App {
    /// The rows.
    pub(crate) storage: Storage,
    /// Which installation this is.
    pub(crate) installation: Installation,
    /// What gateways are given.
    pub(crate) publication: Publication,
    /// The gateways that call.
    pub(crate) fleet: Arc<Fleet>,
    /// How long after it was made a key's newest version should be replaced; `None` for never.
    pub(crate) rotation_after: Option<Duration>,
    /// For how long audit records are kept.
    pub(crate) audit_retention: Duration,
    /// For how long the arguments of calls are kept.
    pub(crate) payload_retention: Duration,
    /// Seals the arguments of calls.
    pub(crate) vault: Vault,
    /// Where callers reach the gateways; `None` if nobody has said.
    pub(crate) gateway_url: Option<String>,
    /// The settings in force, where each comes from, for people to read.
    pub(crate) settings: Vec<SettingInForce>,
    /// How far revocations are in force that were made on a page.
    pub(crate) followed: Followed,
    /// What may be a token.
    pub(crate) known_tokens: KnownTokens,
    /// The connections that are open.
    pub(crate) admission: Arc<Admission>,
    /// The authentications that failed.
    pub(crate) throttle: Throttle,
    /// A permit for each large form of people who are not signed in that is read at once.
    pub(crate) large_forms: Semaphore,
    /// Whether connections are accepted by TLS only.
    pub(crate) serves_tls: bool,
    /// The wall clock.
    pub(crate) clock: Clock,
    /// Random bytes.
    pub(crate) entropy: Entropy,
    /// Changes when a token was revoked. Open polls end, so that a gateway has to show its token anew.
    pub(crate) token_revoked: watch::Sender<()>,
    /// Changes when audit records were committed. Streams look for what is new.
    pub(crate) audit_committed: watch::Sender<()>,
    /// Changes when something was found. The webhook gets what is new.
    pub(crate) finding_committed: watch::Sender<()>,
    /// Who gets findings; `None` for nobody.
    pub(crate) webhook: Option<Webhook>,
    /// Told when the image has outgrown its pages.
    pub(crate) crowded: Notify,
    /// Who gets the audit log; `None` for nobody.
    pub(crate) exporter: Option<Exporter>,
    /// The last count of keys.
    pub(crate) key_counts: KeyCounts,
    /// When a version was last published only because a gateway was ahead.
    pub(crate) last_pass: Mutex<Option<Instant>>,
    /// Held by the one replay that runs.
    pub(crate) replaying: Mutex<()>,
    /// What was answered to creates in the last minutes.
    pub(crate) answers: Answers,
    /// True once the process has been asked to end. Whoever waits stops waiting.
    pub(crate) stopping: watch::Sender<bool>,
}

/// Why the image cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The rows cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The stored policy does not compile.
    #[error("the stored policy is refused: {0}")]
    Policy(#[from] PolicyError),
    /// The rows do not make an image.
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
pub(crate) enum PublishError {
    /// The rows cannot be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no image yet.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The changes do not fit the image.
    #[error("the next image cannot be made: {0}")]
    Snapshot(#[from] SnapshotError),
    /// No gateway could state this version when it polls.
    #[error("version {0} is beyond any that a gateway may state: check the clock")]
    VersionOutOfRange(u64),
    /// The process is ending.
    #[error("the next image was not made: {0}")]
    Ended(#[from] JoinError),
    /// An image that was made beside the changes cannot catch up with them.
    #[error(transparent)]
    Publication(#[from] PublicationError),
}

impl App {
    /// Builds the image from the rows and publishes it. Takes a while with many keys: call it off the threads that
    /// serve requests. No change of a key can be committed before it is done.
    pub(crate) async fn build_image(&self) -> Result<(), BuildError> {
        let began = Instant::now();
        let (main, version) = (&self.storage.main, self.installation.snapshot_version);
        let policy = main.policy().await?;
        let credentials = main.version_count().await?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_BUILDERS);
        let read = (0..threads).map(async |part| {
            let mut builder = ImageBuilder::new(credentials);
            main.read_credentials(part, threads, &mut builder).await?;
            Ok::<_, BuildError>(builder)
        });
        let builders = try_join_all(read).await?;
        let pages = pages(&builders, self.installation.id, version)?;
        drop(builders);
        let document = policy.document.to_json().into();
        let image = Image::from_segments(self.installation.id, version, document, pages)?;
        tracing::info!(version, credentials, took = ?began.elapsed(), "the image of all keys is built");
        // Of the rows and of vectors that have grown: more than half as much as the image itself.
        memory::give_back();
        self.publication.start(image, Policy::compile(policy.document)?, policy.version);
        Ok(())
    }

    /// Commits a transaction and publishes what it changes for gateways; gives the version.
    pub(crate) async fn commit(
        &self,
        transaction: Transaction<'_>,
        changes: Vec<snapshot::Change>,
    ) -> Result<u64, PublishError> {
        self.commit_above(transaction, changes, None, 0).await
    }

    /// Commits a transaction that has added this policy and publishes it; gives the version of the image.
    pub(crate) async fn commit_policy(
        &self,
        transaction: Transaction<'_>,
        policy: NumberedPolicy,
    ) -> Result<u64, PublishError> {
        self.commit_above(transaction, Vec::new(), Some(policy), 0).await
    }

    /// Publishes the present image under a version above `held`, unless that has happened already.
    pub(crate) async fn pass_version(&self, held: u64) -> Result<(), PublishError> {
        let mut last = self.last_pass.lock().await;
        if self.publication.version()? > held {
            return Ok(());
        }
        // Each pass is a version for all gateways. One brings back all that are behind the clock.
        if let Some(last) = *last {
            sleep_until(last + PASS_INTERVAL).await;
        }
        *last = Some(Instant::now());
        let mut writer = self.storage.main.writer().await;
        if self.publication.version()? > held {
            return Ok(());
        }
        let version = self.commit_above(writer.begin().await?, Vec::new(), None, held).await?;
        tracing::warn!(held, version, "a gateway was ahead: the database seems to be restored from a backup");
        Ok(())
    }

    async fn commit_above(
        &self,
        transaction: Transaction<'_>,
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
        mut transaction: Transaction<'_>,
        draft: Draft,
    ) -> Result<u64, PublishError> {
        let version = draft.version();
        if version > MAX_REPORTED_VERSION {
            return Err(PublishError::VersionOutOfRange(version));
        }
        transaction.set_snapshot_version(version).await?;
        transaction.commit().await?;
        self.publication.publish(draft);
        if self.publication.needs_repartition() {
            self.crowded.notify_one();
        }
        Ok(version)
    }

    /// Makes an image with more pages of one that has outgrown its own, and publishes it under a later version. Changes
    /// go on meanwhile; those that were made are caught up with in the end.
    pub(crate) async fn spread(&self) -> Result<(), PublishError> {
        let image = self.publication.image()?;
        if !image.needs_repartition() {
            return Ok(());
        }
        let mut next = spawn_blocking(move || image.repartition()).await??;
        next = self.publication.catch_up(next)?;
        let mut writer = self.storage.main.writer().await;
        next = self.publication.catch_up(next)?;
        let draft = Draft::whole(&next, self.clock.now());
        let (version, credentials) = (draft.version(), next.len());
        drop(next);
        self.commit_draft(writer.begin().await?, draft).await?;
        tracing::info!(version, credentials, "the image has more pages; gateways take it whole");
        Ok(())
    }

    /// Waits until the process is asked to end.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // An error would mean that the sender is gone; it lives as long as this.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Until when the arguments of a call are kept that began then.
    pub(crate) fn payload_end(&self, began: UnixMillis) -> UnixMillis {
        let kept = u64::try_from(self.payload_retention.as_millis()).unwrap_or(u64::MAX);
        UnixMillis(began.0.saturating_add(kept))
    }

    /// The present instant.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

/// All pages of what the builders hold, made by as many threads.
fn pages(
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
        let mut pages = Vec::with_capacity(count as usize);
        for thread in threads {
            // A thread that panics is a defect, and this one goes the same way.
            pages.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(pages)
    })
}

/// Gives the image more pages whenever it has outgrown its own, until the process is asked to end.
pub(crate) async fn keep_spread(app: &App) {
    let until_stopped = async {
        loop {
            app.crowded.notified().await;
            if let Err(error) = app.spread().await {
                tracing::error!(%error, "the image keeps its pages, which are crowded; the next change tries again");
            }
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = app.stopped() => {}
    }
}
