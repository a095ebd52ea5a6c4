//! Purges old data in small transactions, so that writers wait for at most one of them, and whole days at once.

use async_trait::async_trait;
use omniflow_domain::detection::{HOUR_MS, SLOT_MS};
use omniflow_domain::log_content::LogContent;
use omniflow_domain::time::DAY_MS;
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::{row_limit, saturated, to_millis};
use omniflow_store::{LogSize, Result, RetentionStore};

use crate::PostgresStore;

#[async_trait]
impl RetentionStore for PostgresStore {
    async fn purge_records(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        while let Some(dropped) = self.drop_oldest_day(before).await? {
            if dropped > 0 {
                return Ok(dropped);
            }
        }
        let mut transaction = self.begin_log().await?;
        let purged = transaction.purge_old_records(before, limit).await?;
        transaction.commit().await?;
        Ok(purged)
    }

    async fn purge_content(&self, content: LogContent, limit: usize) -> Result<u64> {
        let mut transaction = self.begin_log().await?;
        let purged = transaction.purge_oldest(content, limit).await?;
        transaction.commit().await?;
        Ok(purged)
    }

    async fn log_usage(&self) -> Result<Vec<(LogContent, u64)>> {
        self.read_log_usage().await
    }

    async fn purge_gaps(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        self.purge(
            "DELETE FROM audit_gaps WHERE id IN (SELECT id FROM audit_gaps WHERE to_time < $1 LIMIT $2)",
            to_millis(before),
            limit,
        )
        .await
    }

    async fn purge_calls_in_progress(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        self.purge(
            "DELETE FROM calls_in_progress WHERE id IN (SELECT id FROM calls_in_progress WHERE time < $1 LIMIT $2)",
            to_millis(before),
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
        let mut transaction = self.begin_log().await?;
        let statement = sqlx::query(
            "DELETE FROM audit_gateways WHERE (gateway, incarnation) IN (SELECT gateway, incarnation \
             FROM audit_gateways WHERE heard_at < $1 AND (quiescent OR heard_at < $2) ORDER BY heard_at LIMIT $3)",
        )
        .bind(to_millis(quiescent_before.max(before)))
        .bind(to_millis(before))
        .bind(row_limit(limit));
        let purged = transaction.connection().execute(statement).await?;
        transaction.commit().await?;
        Ok(purged)
    }

    async fn purge_payloads(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        if let Some(purged) = self.empty_oldest_payloads(before).await?
            && purged > 0
        {
            return Ok(purged);
        }
        let mut transaction = self.begin_log().await?;
        let purged = transaction.purge_payloads(before, limit).await?;
        transaction.commit().await?;
        Ok(purged)
    }

    async fn purge_data_keys(&self, before: UnixMillis) -> Result<u64> {
        self.purge(
            "DELETE FROM audit_data_keys WHERE id IN (SELECT id FROM audit_data_keys WHERE created_at < $1 LIMIT $2)",
            to_millis(before),
            usize::MAX,
        )
        .await
    }

    async fn purge_anomalies(&self, before: UnixMillis, now: UnixMillis, limit: usize) -> Result<u64> {
        // Records that arrive later, from a gateway that was disconnected for longer, are counted with fewer networks
        // than they had.
        let slot = now.0.saturating_sub(DAY_MS) / SLOT_MS;
        let mut transaction = self.begin_log().await?;
        let mut purged = 0;
        for (statement, bound) in [
            (
                "DELETE FROM anomalies WHERE id IN (SELECT id FROM anomalies WHERE last_time < $1 LIMIT $2)",
                to_millis(before),
            ),
            (
                "DELETE FROM key_hours WHERE (key_id, hour) IN \
                 (SELECT key_id, hour FROM key_hours WHERE hour < $1 ORDER BY hour LIMIT $2)",
                saturated(before.0 / HOUR_MS),
            ),
            (
                "DELETE FROM key_networks WHERE (key_id, network) IN \
                 (SELECT key_id, network FROM key_networks WHERE last_time < $1 LIMIT $2)",
                to_millis(before),
            ),
            (
                "DELETE FROM key_places WHERE (key_id, slot, network) IN \
                 (SELECT key_id, slot, network FROM key_places WHERE slot < $1 LIMIT $2)",
                saturated(slot),
            ),
            (
                "DELETE FROM key_ends WHERE (key_id, key_version, reason) IN \
                 (SELECT key_id, key_version, reason FROM key_ends WHERE last_time < $1 LIMIT $2)",
                to_millis(before),
            ),
        ] {
            let statement = sqlx::query(statement).bind(bound).bind(row_limit(limit));
            purged += transaction.connection().execute(statement).await?;
        }
        transaction.commit().await?;
        Ok(purged)
    }

    async fn log_size(&self) -> Result<LogSize> {
        self.read_log_size().await
    }

    /// The volume is that of the server.
    async fn free_space(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn reclaim_space(&self) -> Result<()> {
        self.rewrite_sparse_days().await
    }
}

impl PostgresStore {
    /// Deletes up to `limit` rows below a bound.
    async fn purge(&self, statement: &'static str, bound: i64, limit: usize) -> Result<u64> {
        let mut transaction = self.begin_log().await?;
        let statement = sqlx::query(statement).bind(bound).bind(row_limit(limit));
        let purged = transaction.connection().execute(statement).await?;
        transaction.commit().await?;
        Ok(purged)
    }
}
