//! Purges arguments of calls, audit records, gaps and anomalies that have reached the end of their retention. A key's
//! last use and the admin log are never purged.
//!
//! The job deletes in small transactions of the request log. After each one it pauses for as long as the transaction
//! took, so batches from gateways wait for at most one of them, and the request log is free for batches at least half
//! of the time.

use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use tokio::time::{Instant, sleep};

use crate::fleet::Fleet;
use crate::notifications::Notifications;
use crate::vault::DATA_KEY_TIME;
use omniflow_domain::clock::Clock;
use omniflow_domain::log_content::LogContent;
use omniflow_store::{Store, StoreError};

/// Interval between two runs.
const INTERVAL: Duration = Duration::from_secs(60);
/// Interval between two size checks.
const SIZE_INTERVAL: Duration = Duration::from_secs(5);
/// Rows in one transaction.
const ROWS_AT_ONCE: usize = 200;
/// Payloads in one transaction: the longest take 64 database pages.
const PAYLOADS_AT_ONCE: usize = 20;
/// How long a gateway without undelivered records is remembered.
const QUIESCENT_RETENTION: Duration = Duration::from_secs(86_400);
/// How long the delivery state of a gateway that is gone is kept, as a multiple of the retention of records, so that
/// records that it delivers again count once. A gateway that is present keeps its state even without calls.
const STREAMS_KEPT: u32 = 2;
/// Number of gateway runs whose delivery state is removed in one transaction. Each has a row for each worker.
pub const STREAMS_AT_ONCE: usize = 20;

/// How long records are kept.
#[derive(Clone, Copy, Debug)]
pub struct RetentionPeriods {
    /// Audit records, gaps and anomalies.
    pub records: Duration,
    /// The arguments of calls.
    pub payloads: Duration,
    /// The size of the request log, in bytes, above which its oldest records are purged; `None` for no limit.
    pub max_bytes: Option<u64>,
}

/// Purges until the process is asked to end.
pub async fn run_retention(
    store: &dyn Store,
    notifications: &Notifications,
    fleet: &Fleet,
    clock: &Clock,
    periods: RetentionPeriods,
) {
    let until_stopped = async {
        let mut next = Instant::now();
        loop {
            if Instant::now() >= next {
                next = Instant::now() + INTERVAL;
                if let Err(error) = purge(store, fleet, clock, periods).await {
                    tracing::warn!(%error, "purging old audit records failed, will retry in a minute");
                }
            }
            if let Err(error) = purge_to_size(store, periods.max_bytes).await {
                tracing::warn!(%error, "reducing the request log to its maximum size failed, will retry in 5 seconds");
            }
            // Records grow old by the day, but a log can grow by gigabytes in a minute.
            sleep(SIZE_INTERVAL).await;
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = notifications.stopped() => {}
    }
}

/// Purges all data past its retention, and shrinks the file if much of it is then unused.
pub async fn purge(
    store: &dyn Store,
    fleet: &Fleet,
    clock: &Clock,
    periods: RetentionPeriods,
) -> Result<(), StoreError> {
    let start_of = |kept: Duration| {
        UnixMillis(clock.now().0.saturating_sub(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)))
    };
    let mut purged = purge_payloads(store, start_of(periods.payloads)).await?;
    let before = start_of(periods.records);
    loop {
        let started = Instant::now();
        let records = store.purge_records(before, ROWS_AT_ONCE).await?;
        let gaps = store.purge_gaps(before, ROWS_AT_ONCE).await?
            + store.purge_calls_in_progress(before, ROWS_AT_ONCE).await?;
        let gateways = store.purge_gateways(before, start_of(QUIESCENT_RETENTION), ROWS_AT_ONCE).await?;
        let anomalies = store.purge_anomalies(before, clock.now(), ROWS_AT_ONCE).await?;
        purged += records;
        if records == 0 && gaps == 0 && gateways == 0 && anomalies == 0 {
            break;
        }
        // Half of the time is left to gateways.
        sleep(started.elapsed()).await;
    }
    forget_streams(store, fleet, start_of(periods.records.saturating_mul(STREAMS_KEPT))).await?;
    if purged > 0 {
        tracing::info!(purged, "old audit records and payloads purged");
        store.reclaim_space().await?;
    }
    Ok(())
}

/// Purges the oldest records and payloads until the request log is at most `max_bytes` large, each time of the kind that
/// exceeds its share the most. Free pages do not count, because new records reuse them.
pub async fn purge_to_size(store: &dyn Store, max_bytes: Option<u64>) -> Result<(), StoreError> {
    let Some(max_bytes) = max_bytes else { return Ok(()) };
    let mut purged = 0;
    // Gateways may deliver as fast as this deletes, so other deletions must also get their turn.
    let deadline = Instant::now() + INTERVAL;
    while Instant::now() < deadline {
        let started = Instant::now();
        let size = store.log_size().await?;
        if size.bytes.saturating_sub(size.free) <= max_bytes {
            break;
        }
        let Some(content) = LogContent::largest(&store.log_usage().await?) else { break };
        let rows = if content == LogContent::Payloads { PAYLOADS_AT_ONCE } else { ROWS_AT_ONCE };
        purged += store.purge_content(content, rows).await?;
        // Half of the time is left to gateways.
        sleep(started.elapsed()).await;
    }
    if purged > 0 {
        tracing::warn!(
            purged,
            max_bytes,
            "audit records and payloads purged early because the log reached its maximum size"
        );
        store.reclaim_space().await?;
    }
    Ok(())
}

/// Purges the arguments of calls that began before `before`, and the data keys that are no longer needed.
async fn purge_payloads(store: &dyn Store, before: UnixMillis) -> Result<u64, StoreError> {
    let mut purged = 0;
    loop {
        let started = Instant::now();
        let payloads = store.purge_payloads(before, PAYLOADS_AT_ONCE).await?;
        purged += payloads;
        if payloads == 0 {
            break;
        }
        // As above: half of the time is left to gateways.
        sleep(started.elapsed()).await;
    }
    // A data key is used for a day, for calls whose start is ahead of the clock by at most the tolerance for gateways'
    // clocks.
    let unused = UnixMillis(before.0.saturating_sub(2 * DATA_KEY_TIME));
    store.purge_data_keys(unused).await?;
    Ok(purged)
}

/// Removes the delivery state of gateways that are gone and have had no call since `before`. Each start of a gateway's
/// process has its own state, so it would otherwise accumulate forever.
async fn forget_streams(store: &dyn Store, fleet: &Fleet, before: UnixMillis) -> Result<(), StoreError> {
    let mut gone = store.quiet_streams(before).await?;
    gone.retain(|run| !fleet.remembers(run));
    for runs in gone.chunks(STREAMS_AT_ONCE) {
        let started = Instant::now();
        store.forget_streams(runs, before).await?;
        // As above: half of the time is left to gateways.
        sleep(started.elapsed()).await;
    }
    Ok(())
}
