//! Purging what is old, a piece at a time: whoever wants to write waits for one piece at most.

use omniflow_policy::time::UnixMillis;
use sqlx::Row;

use super::columns::{row_limit, to_millis};
use super::{Database, Result};

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
