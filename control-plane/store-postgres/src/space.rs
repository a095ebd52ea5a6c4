//! The space of the request log on the server, and returning what purging has freed.
//!
//! Dropping a day returns its space at once. Rows that are deleted one by one leave space in the tables of their day, which
//! only late records of that day would use. A table of which little is left is rewritten.

use omniflow_store::encoding::Columns;
use omniflow_store::{LogSize, Result};
use sqlx::Connection;
use sqlx::postgres::PgRow;

use crate::PostgresStore;
use crate::error::backend;
use crate::time_limit::TIME_LIMIT;

/// The partitions, with their size in bytes, the bytes of their content, and the part of it that is not deleted, from 0 to 1.
const PARTITIONS: &str = "SELECT parent, audit_days.day, \
     coalesce(pg_total_relation_size(to_regclass(audit_partition(parent, audit_days.day))), 0) AS size, \
     coalesce(sum(bytes), 0)::bigint AS bytes, coalesce(sum(bytes) / nullif(sum(written), 0), 1)::float8 AS used \
     FROM audit_days CROSS JOIN (VALUES ('audit_records', false), ('audit_payloads', true)) AS tables (parent, is_payloads) \
     LEFT JOIN log_usage ON log_usage.day = audit_days.day AND (content = 'payloads') = is_payloads \
     GROUP BY parent, audit_days.day";
/// The size of the other tables of the log.
const OTHER_TABLES: &str = "SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0)::bigint FROM unnest(ARRAY[ \
     'anomalies', 'anomaly_totals', 'audit_data_keys', 'audit_days', 'audit_export', 'audit_gaps', 'audit_gateways', \
     'audit_numbers', 'audit_streams', 'calls_in_progress', 'deliveries', 'gap_totals', 'key_ends', 'key_hours', \
     'key_last_used', 'key_networks', 'key_places', 'log_usage']) AS name";
/// A table that is rewritten is larger than this, in bytes.
const MIN_SIZE: i64 = 1 << 20;
/// A table that is rewritten has at most this much content, in bytes: about a second, for which its readers wait.
const MAX_CONTENT: i64 = 64 << 20;
/// How long rewriting a table waits for its readers. While it waits, other readers wait too.
const LOCK_LIMIT: &str = "SET lock_timeout = '200ms'";

impl PostgresStore {
    pub(crate) async fn read_log_size(&self) -> Result<LogSize> {
        let mut reader = self.database.reader().await?;
        let query = sqlx::AssertSqlSafe(format!(
            "SELECT coalesce(sum(size), 0)::bigint, coalesce(sum(size * (1 - used)), 0)::bigint, ({OTHER_TABLES}) \
             FROM ({PARTITIONS}) AS partitions"
        ));
        let row = reader.row(sqlx::query(query)).await?;
        let count = |column| row.column::<i64>(column).map(i64::cast_unsigned);
        let (partitions, free, others) = (count(0)?, count(1)?, count(2)?);
        Ok(LogSize { bytes: partitions.saturating_add(others), free: free.min(partitions) })
    }

    /// Rewrites the tables of which at most half is used, except those of the newest day. One with a reader in the way is left
    /// to the next time.
    pub(crate) async fn rewrite_sparse_days(&self) -> Result<()> {
        let query = sqlx::AssertSqlSafe(format!(
            "SELECT day, audit_partition(parent, day), parent = 'audit_payloads' FROM ({PARTITIONS}) AS partitions \
             WHERE used <= 0.5 AND size > $1 AND bytes <= $2 AND day < (SELECT max(day) FROM audit_days)"
        ));
        let query = sqlx::query(query).bind(MIN_SIZE).bind(MAX_CONTENT);
        let sparse = self.database.reader().await?.rows(query).await?;
        let read = |row: &PgRow| Ok((row.column(0)?, row.column(1)?, row.column(2)?));
        for (day, table, is_payloads) in sparse.iter().map(read).collect::<Result<Vec<_>>>()? {
            if self.rewrite(table).await? {
                self.set_all_used(day, is_payloads).await?;
            }
        }
        Ok(())
    }

    /// Rewrites a table. Returns whether that has freed what is not used: deleted rows stay if a transaction, of any database of
    /// the server, has begun before they were deleted.
    async fn rewrite(&self, table: String) -> Result<bool> {
        // The readers' time limit for statements would stop it.
        let mut connection = self.database.connect().await?;
        let limit = sqlx::query(LOCK_LIMIT).execute(&mut connection).await;
        limit.map_err(|error| backend(error, TIME_LIMIT))?;
        // A concatenated statement: VACUUM takes no parameters. The name consists of letters, digits and underscores.
        let rewrite = sqlx::AssertSqlSafe(format!("VACUUM (FULL) {table}"));
        let before = self.size_of(&table).await?;
        let rewritten = sqlx::query(rewrite).execute(&mut connection).await;
        if let Err(error) = &rewritten {
            tracing::debug!(table, %error, "partition not rewritten");
        }
        // What was rewritten stays, whether the connection ends politely or not.
        let _ = connection.close().await;
        Ok(rewritten.is_ok() && self.size_of(&table).await? <= before / 4 * 3)
    }

    async fn size_of(&self, table: &str) -> Result<i64> {
        let query = sqlx::query("SELECT pg_total_relation_size($1::text::regclass)").bind(table);
        self.database.reader().await?.row(query).await?.column(0)
    }

    async fn set_all_used(&self, day: i64, is_payloads: bool) -> Result<()> {
        let mut transaction = self.begin_log().await?;
        let statement = sqlx::query(
            "UPDATE log_usage SET written = bytes WHERE day = $1 AND (content = 'payloads') = $2",
        )
        .bind(day)
        .bind(is_payloads);
        transaction.connection().execute(statement).await?;
        transaction.commit().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use omniflow_domain::log_content::LogContent;
    use omniflow_policy::audit::AuditRecord;
    use omniflow_store::RetentionStore;
    use omniflow_store::contract::fixtures::{DAY, START, ingest, record};

    use super::*;
    use crate::test_store::new_store;

    async fn fill(store: &PostgresStore, first: u64, count: u64) {
        let long = |n| AuditRecord { path: "/x".repeat(500), ..record(n, START + first / 4_000 * DAY, None) };
        for first in (first..first + count).step_by(1_000) {
            ingest(store, (first..first + 1_000).map(long).collect()).await;
        }
    }

    #[tokio::test]
    async fn sparse_day_is_rewritten() {
        let (store, _database) = new_store().await;
        fill(&store, 0, 4_000).await;
        fill(&store, 4_000, 1_000).await;
        let full = store.log_size().await.unwrap();
        assert!(full.bytes > 4 << 20 && full.free == 0, "{full:?}");
        // A transaction that can see the records that are purged.
        let mut other = store.database.connect().await.unwrap();
        for statement in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT FROM audit_days"] {
            sqlx::query(statement).execute(&mut other).await.unwrap();
        }
        assert_eq!(store.purge_content(LogContent::WithoutKey, 3_000).await.unwrap(), 3_000);
        let sparse = store.log_size().await.unwrap();
        assert!(sparse.bytes >= full.bytes && sparse.free > full.bytes / 2, "{sparse:?} after {full:?}");
        store.reclaim_space().await.unwrap();
        let kept = store.log_size().await.unwrap();
        assert!(kept.free > full.bytes / 2, "still free: {kept:?} after {sparse:?}");
        other.close().await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        // Transactions in other databases of the server count, too.
        while store.log_size().await.unwrap().free > 0 {
            assert!(Instant::now() < deadline, "{:?}", store.log_size().await);
            store.reclaim_space().await.unwrap();
            sleep(Duration::from_millis(50)).await;
        }
        let rewritten = store.log_size().await.unwrap();
        assert!(rewritten.bytes < full.bytes * 3 / 5 && rewritten.free == 0, "{rewritten:?} after {full:?}");
        // The newest day keeps its space: records that arrive use it.
        for purged in [1_000, 900] {
            assert_eq!(store.purge_content(LogContent::WithoutKey, purged).await.unwrap(), purged as u64);
        }
        store.reclaim_space().await.unwrap();
        let newest = store.log_size().await.unwrap();
        assert!(newest.free > 1 << 19, "{newest:?}");
    }
}
