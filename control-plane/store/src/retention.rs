//! Purging, a bounded number of rows per call, so that no writer waits long. Every method returns how many rows it deleted: 0
//! when there are no more. A backend that drops a whole day as fast as a few rows may exceed the limit with it.

use async_trait::async_trait;
use omniflow_domain::log_content::LogContent;
use omniflow_policy::time::UnixMillis;

use crate::error::Result;

/// The space that the request log uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSize {
    /// The total, in bytes.
    pub bytes: u64,
    /// The unused part, which is reused first, in bytes.
    pub free: u64,
}

/// Deletes data that is older than the retention period. The last use of each key is kept.
#[async_trait]
pub trait RetentionStore {
    /// Deletes up to `limit` calls that began before `before`, oldest first.
    async fn purge_records(&self, before: UnixMillis, limit: usize) -> Result<u64>;

    /// Deletes up to `limit` of the oldest items of this kind; records with their payloads. For calls whose records it
    /// deletes, it stores a gap: one for each gateway, cause and hour.
    async fn purge_content(&self, content: LogContent, limit: usize) -> Result<u64>;

    /// The approximate size of each kind of content of the request log, in bytes. A kind may be missing if there is none.
    async fn log_usage(&self) -> Result<Vec<(LogContent, u64)>>;

    /// Deletes up to `limit` gaps that ended before `before`.
    async fn purge_gaps(&self, before: UnixMillis, limit: usize) -> Result<u64>;

    /// Deletes up to `limit` calls in progress that began before `before`.
    async fn purge_calls_in_progress(&self, before: UnixMillis, limit: usize) -> Result<u64>;

    /// Removes up to `limit` gateways that were last seen before `quiescent_before` and have no undelivered call, or
    /// that were last seen before `before`.
    async fn purge_gateways(
        &self,
        before: UnixMillis,
        quiescent_before: UnixMillis,
        limit: usize,
    ) -> Result<u64>;

    /// Deletes up to `limit` payloads of calls that began before `before`, oldest first.
    async fn purge_payloads(&self, before: UnixMillis, limit: usize) -> Result<u64>;

    /// Deletes data keys created before `before`.
    async fn purge_data_keys(&self, before: UnixMillis) -> Result<u64>;

    /// Deletes up to `limit` anomalies and sums of each kind without a call since `before`, and details of hours that
    /// are too old for late records.
    async fn purge_anomalies(&self, before: UnixMillis, now: UnixMillis, limit: usize) -> Result<u64>;

    /// The space that the request log uses.
    async fn log_size(&self) -> Result<LogSize>;

    /// The free space on the volume of the request log, in bytes; `None` if the backend does not provide it.
    async fn free_space(&self) -> Result<Option<u64>>;

    /// Returns space that purging has freed to the operating system, if that is worthwhile. Writers are blocked
    /// at most half of the time. A backend that does this by itself keeps the default.
    async fn reclaim_space(&self) -> Result<()> {
        Ok(())
    }
}
