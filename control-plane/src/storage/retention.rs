//! Purging what is old, a piece at a time: whoever wants to write waits for one piece at most.

use omniflow_policy::time::UnixMillis;
use sqlx::Row;

use super::columns::{row_limit, saturated, to_millis};
use super::{Database, Result};
use omniflow_domain::patterns::{HOUR_MS, SLOT_MS};

const DAY_MS: u64 = 24 * HOUR_MS;

/// How full a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    /// All pages of the file.
    pub(crate) all: u64,
    /// Those that hold nothing and are used for what comes next.
    pub(crate) free: u64,
}

impl Database {
    /// Deletes at most `limit` records of calls that began before `before`, the oldest first. Gives how many.
    pub(crate) async fn purge_records(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        self.purge(
            "DELETE FROM audit_records WHERE id IN \
             (SELECT id FROM audit_records WHERE time < ? ORDER BY time LIMIT ?)",
            before,
            limit,
        )
        .await
    }

    /// Deletes at most `limit` gaps that ended before `before`. Gives how many.
    pub(crate) async fn purge_gaps(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        self.purge(
            "DELETE FROM audit_gaps WHERE id IN (SELECT id FROM audit_gaps WHERE to_time < ? LIMIT ?)",
            before,
            limit,
        )
        .await
    }

    /// Forgets at most `limit` gateways that were heard of last before `settled`, and hold nothing, or before `before`.
    pub(crate) async fn purge_gateways(
        &self,
        before: UnixMillis,
        settled: UnixMillis,
        limit: usize,
    ) -> Result<u64> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin().await?;
        let purged = sqlx::query(
            "DELETE FROM audit_gateways WHERE (gateway, incarnation) IN (SELECT gateway, incarnation \
             FROM audit_gateways WHERE heard_at < ? AND (settled = 1 OR heard_at < ?) ORDER BY heard_at LIMIT ?)",
        )
        .bind(to_millis(settled.max(before)))
        .bind(to_millis(before))
        .bind(row_limit(limit))
        .execute(transaction.connection())
        .await?;
        transaction.commit().await?;
        Ok(purged.rows_affected())
    }

    /// Deletes at most `limit` payloads of calls that began before `before`, the oldest first. Gives how many.
    pub(crate) async fn purge_payloads(&self, before: UnixMillis, limit: usize) -> Result<u64> {
        self.purge(
            "DELETE FROM audit_payloads WHERE record_id IN \
             (SELECT record_id FROM audit_payloads WHERE time < ? ORDER BY time LIMIT ?)",
            before,
            limit,
        )
        .await
    }

    /// Deletes the data keys that were made before `before`.
    pub(crate) async fn purge_data_keys(&self, before: UnixMillis) -> Result<u64> {
        self.purge(
            "DELETE FROM audit_data_keys WHERE id IN (SELECT id FROM audit_data_keys WHERE created_at < ? LIMIT ?)",
            before,
            usize::MAX,
        )
        .await
    }

    /// Deletes at most `limit` rows of each kind that no call since `before` belongs to, findings among them, and the
    /// places of hours that no batch is likely to add to any more. Gives how many.
    pub(crate) async fn purge_patterns(
        &self,
        before: UnixMillis,
        now: UnixMillis,
        limit: usize,
    ) -> Result<u64> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin().await?;
        // Late records of a gateway that was cut off for longer count for fewer places than they had.
        let slot = now.0.saturating_sub(DAY_MS) / SLOT_MS;
        let mut purged = 0;
        for (statement, bound) in [
            (
                "DELETE FROM findings WHERE id IN (SELECT id FROM findings WHERE last_time < ? LIMIT ?)",
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
            purged += rows.await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(purged)
    }

    async fn purge(&self, statement: &'static str, before: UnixMillis, limit: usize) -> Result<u64> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin().await?;
        let purged = sqlx::query(statement)
            .bind(to_millis(before))
            .bind(row_limit(limit))
            .execute(transaction.connection())
            .await?;
        transaction.commit().await?;
        Ok(purged.rows_affected())
    }

    /// How full the file is.
    pub(crate) async fn pages(&self) -> Result<Pages> {
        let mut reader = self.reader().await?;
        let all: i64 = sqlx::query("PRAGMA page_count").fetch_one(&mut *reader).await?.try_get(0)?;
        let free: i64 = sqlx::query("PRAGMA freelist_count").fetch_one(&mut *reader).await?.try_get(0)?;
        Ok(Pages { all: all.cast_unsigned(), free: free.cast_unsigned() })
    }

    /// Gives at most `limit` free pages back to the file system, and tells how full the file is then. Nothing is given
    /// back of a database that was made before this could be done.
    pub(crate) async fn shrink(&self, limit: u32) -> Result<Pages> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin().await?;
        // A statement that is put together: a pragma takes no parameters.
        let statement = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({limit})"));
        sqlx::query(statement).fetch_all(transaction.connection()).await?;
        transaction.commit().await?;
        drop(writer);
        self.pages().await
    }
}
