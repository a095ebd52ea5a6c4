//! Space for the request log: how large it may become, and what stays free on its volume for changes of keys.
//!
//! Keys and the request log may share a volume. Below the reserve, batches of gateways are refused first: gateways keep their
//! records and deliver them later, and a revocation still finds space.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_store::{Store, StoreError};
use tokio::time::Instant;

/// How long the free space that was read last is used.
const MAX_AGE: Duration = Duration::from_secs(1);
/// The shortest time between two warnings of one kind.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Limits in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// The size of the request log above which its oldest records are purged; `None` for no limit.
    pub max_bytes: Option<u64>,
    /// The free space of the volume below which batches are refused.
    pub reserve_bytes: u64,
}

/// The space of the request log.
pub struct LogSpace {
    store: Arc<dyn Store>,
    limits: LogLimits,
    /// Batches that were refused for want of space.
    refused: AtomicU64,
    /// Batches that the store could not take.
    failed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The free space, and when it was read.
    free: Option<(Instant, Option<u64>)>,
    warned: Option<Instant>,
}

/// The space at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceStatus {
    /// The size of the request log, in bytes.
    pub log_bytes: u64,
    /// The limits.
    pub limits: LogLimits,
    /// The free space of its volume, in bytes; `None` if the backend cannot tell.
    pub free_bytes: Option<u64>,
    /// Batches refused since the start because the reserve was reached.
    pub refused_batches: u64,
    /// Batches that failed since the start because they could not be stored.
    pub failed_batches: u64,
}

// === impl LogSpace ===

impl LogSpace {
    /// The space of the request log in this store.
    pub fn new(store: Arc<dyn Store>, limits: LogLimits) -> Self {
        let (refused, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { store, limits, refused, failed, state: Mutex::default() }
    }

    /// Succeeds if a batch may be stored.
    ///
    /// # Errors
    ///
    /// `busy` if less than the reserve is free.
    pub(crate) async fn admit_batch(&self) -> Result<(), Error> {
        let Some(free) = self.free().await?.filter(|free| *free < self.limits.reserve_bytes) else {
            return Ok(());
        };
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let reserve = self.limits.reserve_bytes;
        if self.may_warn() {
            tracing::warn!(
                free,
                reserve,
                refused,
                "batches of gateways refused: the volume of the request log is almost full"
            );
        }
        let detail =
            "The volume of the request log is almost full. Free space, or state a smaller audit_max_mib.";
        Err(Error::new(ErrorCode::Busy, detail))
    }

    /// The error of a batch that could not be stored. A full disk fails thousands of batches: few of them are logged.
    pub(crate) fn batch_failed(&self, error: StoreError) -> Error {
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.may_warn() {
            tracing::error!(%error, failed, "a batch of a gateway cannot be stored");
        }
        Error::internal()
    }

    /// The space at this moment.
    pub async fn status(&self) -> Result<SpaceStatus, StoreError> {
        Ok(SpaceStatus {
            log_bytes: self.store.log_size().await?.bytes,
            limits: self.limits,
            free_bytes: self.free().await?,
            refused_batches: self.refused.load(Ordering::Relaxed),
            failed_batches: self.failed.load(Ordering::Relaxed),
        })
    }

    /// The free space, as of a second ago at most.
    async fn free(&self) -> Result<Option<u64>, StoreError> {
        let last = self.lock().free;
        if let Some((_, free)) = last.filter(|(at, _)| at.elapsed() < MAX_AGE) {
            return Ok(free);
        }
        let free = self.store.free_space().await?;
        self.lock().free = Some((Instant::now(), free));
        Ok(free)
    }

    fn may_warn(&self) -> bool {
        let mut state = self.lock();
        let is_due = state.warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL);
        if is_due {
            state.warned = Some(Instant::now());
        }
        is_due
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl SpaceStatus ===

impl SpaceStatus {
    /// Whether batches are refused.
    pub fn is_below_reserve(&self) -> bool {
        self.free_bytes.is_some_and(|free| free < self.limits.reserve_bytes)
    }
}
