//! Purges old data in small transactions, so that writers wait for at most one of them.

use omniflow_policy::time::UnixMillis;

use omniflow_domain::detection::{HOUR_MS, SLOT_MS};
use omniflow_domain::log_content::LogContent;
use omniflow_domain::time::DAY_MS;

use async_trait::async_trait;
use omniflow_store::encoding::{Columns, row_limit, saturated, to_millis};
use omniflow_store::{LogSize, Result, RetentionStore, StoreError};
use tokio::time::{Instant, sleep};

use crate::SqliteStore;

/// Free pages that remain in the file whatever its size: 1 MiB.
const SPARE_PAGES: u64 = 256;
/// Pages that are returned in one transaction.
const PAGES_AT_ONCE: u32 = 64;

/// How full a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    /// All pages of the file.
    pub(crate) all: u64,
    /// Free pages, which are reused first.
    pub(crate) free: u64,
}

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn purge_records(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        let mut transaction = self.audit.begin().await?;
        let purged = transaction.purge_old_records(before, limit).await?;
        transaction.commit().await?;
        Ok(purged)
    }

    async fn purge_content(&self, content: LogContent, limit: usize) -> Result<u64> {
        let mut transaction = self.audit.begin().await?;
        let purged = transaction.purge_oldest(content, limit).await?;
        transaction.commit().await?;
        Ok(purged)
    }

    async fn log_usage(&self) -> Result<Vec<(LogContent, u64)>> {
        self.read_log_usage().await
    }

    async fn purge_gaps(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        self.purge(
            "DELETE FROM audit_gaps WHERE id IN (SELECT id FROM audit_gaps WHERE to_time < ? LIMIT ?)",
            before,
            limit,
        )
        .await
    }

    async fn purge_calls_in_progress(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        self.purge(
            "DELETE FROM calls_in_progress WHERE id IN (SELECT id FROM calls_in_progress WHERE time < ? LIMIT ?)",
            before,
            limit,
        )
        .await
    }

    async fn purge_gateways(
        &self,
        before: UnixMillis,
        quiescent_before: UnixMillis,
        limit: usize,
    ) -> Result<u64> {
        let mut transaction = self.audit.begin().await?;
        let purged = sqlx::query(
            "DELETE FROM audit_gateways WHERE (gateway, incarnation) IN (SELECT gateway, incarnation \
             FROM audit_gateways WHERE heard_at < ? AND (quiescent = 1 OR heard_at < ?) ORDER BY heard_at LIMIT ?)",
        )
        .bind(to_millis(quiescent_before.max(before)))
        .bind(to_millis(before))
        .bind(row_limit(limit))
        .execute(transaction.connection())
        .await
        .map_err(StoreError::backend)?;
        transaction.commit().await?;
        Ok(purged.rows_affected())
    }

    async fn purge_payloads(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        let mut transaction = self.audit.begin().await?;
        let purged = transaction.purge_payloads(before, limit).await?;
        transaction.commit().await?;
        Ok(purged)
    }

    async fn purge_data_keys(&self, before: UnixMillis) -> Result<u64> {
        self.purge(
            "DELETE FROM audit_data_keys WHERE id IN (SELECT id FROM audit_data_keys WHERE created_at < ? LIMIT ?)",
            before,
            usize::MAX,
        )
        .await
    }

    async fn purge_anomalies(&self, before: UnixMillis, now: UnixMillis, limit: usize) -> Result<u64> {
        let mut transaction = self.audit.begin().await?;
        // Records that arrive later, from a gateway that was disconnected for longer, are counted with fewer networks
        // than they had.
        let slot = now.0.saturating_sub(DAY_MS) / SLOT_MS;
        let mut purged = 0;
        for (statement, bound) in [
            (
                "DELETE FROM anomalies WHERE id IN (SELECT id FROM anomalies WHERE last_time < ? LIMIT ?)",
                to_millis(before),
            ),
            (
                "DELETE FROM key_hours WHERE (key_id, hour) IN \
                 (SELECT key_id, hour FROM key_hours WHERE hour < ? ORDER BY hour LIMIT ?)",
                saturated(before.0 / HOUR_MS),
            ),
            (
                "DELETE FROM key_networks WHERE (key_id, network) IN \
                 (SELECT key_id, network FROM key_networks WHERE last_time < ? LIMIT ?)",
                to_millis(before),
            ),
            (
                "DELETE FROM key_places WHERE (key_id, slot, network) IN \
                 (SELECT key_id, slot, network FROM key_places WHERE slot < ? LIMIT ?)",
                saturated(slot),
            ),
            (
                "DELETE FROM key_ends WHERE (key_id, key_version, reason) IN \
                 (SELECT key_id, key_version, reason FROM key_ends WHERE last_time < ? LIMIT ?)",
                to_millis(before),
            ),
        ] {
            let rows =
                sqlx::query(statement).bind(bound).bind(row_limit(limit)).execute(transaction.connection());
            purged += rows.await.map_err(StoreError::backend)?.rows_affected();
        }
        transaction.commit().await?;
        Ok(purged)
    }

    async fn log_size(&self) -> Result<LogSize> {
        let Pages { all, free } = self.pages().await?;
        let mut reader = self.audit.reader().await?;
        let row =
            sqlx::query("PRAGMA page_size").fetch_one(&mut *reader).await.map_err(StoreError::backend)?;
        let page = row.column::<u64>(0)?;
        Ok(LogSize { bytes: all * page, free: free * page })
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        Ok(self.volume.free_bytes().await)
    }

    /// Keeps the free pages that the records of the next days will use.
    async fn reclaim_space(&self) -> Result<()> {
        let mut pages = self.pages().await?;
        while has_too_many_free(pages) {
            let started = Instant::now();
            let left = self.shrink(PAGES_AT_ONCE).await?;
            // A database without auto_vacuum keeps its size and reuses its free pages.
            if left.all >= pages.all {
                break;
            }
            pages = left;
            // Leaves half of the time to writers.
            sleep(started.elapsed()).await;
        }
        Ok(())
    }
}

impl SqliteStore {
    async fn purge(&self, statement: &'static str, before: UnixMillis, limit: usize) -> Result<u64> {
        let mut transaction = self.audit.begin().await?;
        let purged = sqlx::query(statement)
            .bind(to_millis(before))
            .bind(row_limit(limit))
            .execute(transaction.connection())
            .await
            .map_err(StoreError::backend)?;
        transaction.commit().await?;
        Ok(purged.rows_affected())
    }

    /// How full the file of the request log is.
    pub(crate) async fn pages(&self) -> Result<Pages> {
        let mut reader = self.audit.reader().await?;
        let all: i64 = sqlx::query("PRAGMA page_count")
            .fetch_one(&mut *reader)
            .await
            .map_err(StoreError::backend)?
            .column(0)?;
        let free: i64 = sqlx::query("PRAGMA freelist_count")
            .fetch_one(&mut *reader)
            .await
            .map_err(StoreError::backend)?
            .column(0)?;
        Ok(Pages { all: all.cast_unsigned(), free: free.cast_unsigned() })
    }

    /// Returns up to `limit` free pages to the file system, and then how full the file is.
    async fn shrink(&self, limit: u32) -> Result<Pages> {
        let mut transaction = self.audit.begin().await?;
        // A concatenated statement: a pragma takes no parameters.
        let statement = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({limit})"));
        sqlx::query(statement).fetch_all(transaction.connection()).await.map_err(StoreError::backend)?;
        transaction.commit().await?;
        self.pages().await
    }
}

/// More than a tenth of the file: moving pages that are needed again within the retention would be wasted work.
fn has_too_many_free(pages: Pages) -> bool {
    pages.free > SPARE_PAGES.max(pages.all / 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use omniflow_policy::time::UnixMillis;
    use omniflow_store::contract::fixtures::{DAY, START, ingest, record};

    /// Stores `count` records from number `first` that begin at `time`.
    async fn fill(store: &SqliteStore, first: u64, count: u64, time: u64) {
        for first in (first..first + count).step_by(1_000) {
            let records = (first..first + 1_000).map(|n| record(n, time + n, None)).collect();
            ingest(store, records).await;
        }
    }

    #[tokio::test]
    async fn file_shrinks_and_free_pages_are_reused() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        fill(&store, 0, 20_000, START).await;
        let full = store.pages().await.unwrap();
        assert!(full.free < 100 && full.all > 4 * SPARE_PAGES, "{full:?}");

        while store.purge_records(UnixMillis(START + DAY), 200).await.unwrap() > 0 {}
        store.reclaim_space().await.unwrap();
        let purged = store.pages().await.unwrap();
        assert!(purged.free <= SPARE_PAGES, "{purged:?}");
        assert!(purged.all < full.all / 2, "returned: {purged:?} of {full:?}");

        let spare = purged.free;
        fill(&store, 20_000, 2_000, START + 91 * DAY).await;
        let reused = store.pages().await.unwrap();
        assert!(reused.free < spare, "{reused:?}");
        assert!(reused.all <= purged.all + 8, "free pages come first: {reused:?} after {purged:?}");
    }
}
