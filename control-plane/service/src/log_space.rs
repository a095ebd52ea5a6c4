//! Limits on the space of the request log: its maximum size, and the space that stays free on its volume for changes to keys.
//!
//! Keys and the request log may share a volume. When less than the reserve is free, batches of gateways are rejected, so that
//! keys can still be revoked. Gateways keep their records and deliver them later.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_store::{Store, StoreError};
use tokio::time::Instant;

/// How long a measurement of the free space is reused.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Minimum time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Limits in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// The size of the request log above which its oldest records are purged; `None` for no limit.
    pub max_bytes: Option<u64>,
    /// The free space of the volume below which batches are rejected.
    pub reserve_bytes: u64,
}

/// The space of the request log.
pub struct LogSpace {
    store: Arc<dyn Store>,
    limits: LogLimits,
    /// Batches that were rejected because less than the reserve was free.
    rejected: AtomicU64,
    /// Batches that could not be stored.
    failed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the free space was measured, and its size.
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
    /// The free space of its volume, in bytes; `None` if the backend does not provide it.
    pub free_bytes: Option<u64>,
    /// Batches rejected since the start because less than the reserve was free.
    pub rejected_batches: u64,
    /// Batches that failed since the start because they could not be stored.
    pub failed_batches: u64,
}

// === impl LogSpace ===

impl LogSpace {
    /// The space of the request log in this store.
    pub fn new(store: Arc<dyn Store>, limits: LogLimits) -> Self {
        let (rejected, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { store, limits, rejected, failed, state: Mutex::default() }
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
        let rejected = self.rejected.fetch_add(1, Ordering::Relaxed) + 1;
        let reserve = self.limits.reserve_bytes;
        if self.may_warn() {
            tracing::warn!(
                free,
                reserve,
                rejected,
                "gateway batches rejected, the volume of the request log is almost full"
            );
        }
        let detail =
            "The volume of the request log is almost full. Free up space on it, or lower audit_max_mib.";
        Err(Error::new(ErrorCode::Busy, detail))
    }

    /// The error of a batch that could not be stored. Logs at most one per minute, because on a full disk every batch fails.
    pub(crate) fn batch_failed(&self, error: StoreError) -> Error {
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.may_warn() {
            tracing::error!(%error, failed, "storing a gateway batch failed");
        }
        Error::internal()
    }

    /// The current status.
    pub async fn status(&self) -> Result<SpaceStatus, StoreError> {
        Ok(SpaceStatus {
            log_bytes: self.store.log_size().await?.bytes,
            limits: self.limits,
            free_bytes: self.free().await?,
            rejected_batches: self.rejected.load(Ordering::Relaxed),
            failed_batches: self.failed.load(Ordering::Relaxed),
        })
    }

    /// The free space, measured at most a second ago.
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
    /// Whether batches are rejected.
    pub fn is_below_reserve(&self) -> bool {
        self.free_bytes.is_some_and(|free| free < self.limits.reserve_bytes)
    }
}
