//! Purges records and payloads, keeps count of the space that they take up, and stores gaps for records that are purged early.

use std::collections::BTreeMap;

use omniflow_domain::audit::GapCause;
use omniflow_domain::log_content::LogContent;
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::{Columns, parsed, row_limit, saturated, to_millis};
use omniflow_store::purge::{PurgedCalls, PurgedRecord, by_gateway_and_hour};
use omniflow_store::{Result, StoreError};
use serde_json::json;
use sqlx::sqlite::SqliteRow;

use crate::SqliteStore;
use crate::database::SqliteTransaction;

/// The kind of a record, as in [`LogContent`].
const CONTENT: &str =
    "CASE WHEN key_id IS NULL THEN 'without_key' WHEN reason = 'allowed' THEN 'allowed' ELSE 'refused' END";
/// The approximate size of a record with its index entries. It must not change while the record exists.
const RECORD_BYTES: &str = "450 + length(path) + length(request_id)";
/// The approximate size of a payload.
const PAYLOAD_BYTES: &str = "50 + length(sealed)";

impl SqliteStore {
    pub(crate) async fn read_log_usage(&self) -> Result<Vec<(LogContent, u64)>> {
        let rows = sqlx::query("SELECT content, bytes FROM log_usage")
            .fetch_all(&mut *self.audit.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        let usage = |row: &SqliteRow| {
            let content = parsed(row.column(0)?, "a kind of content")?;
            Ok((content, u64::try_from(row.column::<i64>(1)?).unwrap_or_default()))
        };
        rows.iter().map(usage).collect()
    }
}

impl SqliteTransaction {
    /// The number of the last record.
    pub(crate) async fn last_record(&mut self) -> Result<i64> {
        sqlx::query("SELECT coalesce(max(id), 0) FROM audit_records")
            .fetch_one(self.connection())
            .await
            .map_err(StoreError::backend)?
            .column(0)
    }

    /// Adds the records after this number, and their payloads, to the space that is used.
    pub(crate) async fn add_usage(&mut self, after: i64) -> Result<()> {
        const ADD: &str = "ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes";
        for statement in [
            format!(
                "INSERT INTO log_usage SELECT {CONTENT}, sum({RECORD_BYTES}) FROM audit_records NOT INDEXED WHERE id > ? \
                 GROUP BY 1 {ADD}"
            ),
            format!(
                "INSERT INTO log_usage SELECT 'payloads', sum({PAYLOAD_BYTES}) FROM audit_payloads NOT INDEXED \
                 WHERE record_id > ? GROUP BY 1 {ADD}"
            ),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(after)
                .execute(self.connection())
                .await
                .map_err(StoreError::backend)?;
        }
        Ok(())
    }

    async fn subtract_usage(&mut self, content: LogContent, bytes: u64) -> Result<()> {
        sqlx::query("UPDATE log_usage SET bytes = max(0, bytes - ?) WHERE content = ?")
            .bind(saturated(bytes))
            .bind(content.as_str())
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }

    /// Purges up to `limit` of the oldest records that began before `before`.
    pub(crate) async fn purge_old_records(&mut self, before: UnixMillis, limit: usize) -> Result<u64> {
        let records = self.oldest_records("INDEXED BY audit_records_time", "true", before, limit).await?;
        self.delete_records(&records).await
    }

    /// Purges up to `limit` of the oldest items of this kind, and stores gaps for records.
    pub(crate) async fn purge_oldest(&mut self, content: LogContent, limit: usize) -> Result<u64> {
        let (index, condition) = match content {
            LogContent::WithoutKey => ("INDEXED BY audit_records_without_key", "key_id IS NULL"),
            LogContent::Refused => {
                ("INDEXED BY audit_records_refused", "key_id IS NOT NULL AND reason <> 'allowed'")
            }
            LogContent::Allowed => {
                ("INDEXED BY audit_records_reason", "reason = 'allowed' AND +key_id IS NOT NULL")
            }
            LogContent::Payloads => {
                let purged = self.purge_payloads(UnixMillis(u64::MAX), limit).await?;
                if purged == 0 {
                    self.subtract_usage(content, u64::MAX).await?;
                }
                return Ok(purged);
            }
        };
        let records = self.oldest_records(index, condition, UnixMillis(u64::MAX), limit).await?;
        if records.is_empty() {
            // The size is approximate. Without this, the next call would choose the same kind.
            self.subtract_usage(content, u64::MAX).await?;
        }
        if let Some(cause) = content.gap_cause() {
            self.insert_purge_gaps(cause, &records).await?;
        }
        self.delete_records(&records).await
    }

    /// Purges up to `limit` of the oldest payloads of calls that began before `before`.
    pub(crate) async fn purge_payloads(&mut self, before: UnixMillis, limit: usize) -> Result<u64> {
        let statement = format!(
            "DELETE FROM audit_payloads WHERE record_id IN \
             (SELECT record_id FROM audit_payloads WHERE time < ? ORDER BY time LIMIT ?) RETURNING {PAYLOAD_BYTES}"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(to_millis(before))
            .bind(row_limit(limit))
            .fetch_all(self.connection())
            .await
            .map_err(StoreError::backend)?;
        self.free_payload_space(&rows).await
    }

    async fn free_payload_space(&mut self, deleted: &[SqliteRow]) -> Result<u64> {
        let mut bytes: u64 = 0;
        for row in deleted {
            bytes = bytes.saturating_add(row.column::<u64>(0)?);
        }
        self.subtract_usage(LogContent::Payloads, bytes).await?;
        Ok(deleted.len() as u64)
    }

    async fn oldest_records(
        &mut self,
        index: &str,
        condition: &str,
        before: UnixMillis,
        limit: usize,
    ) -> Result<Vec<PurgedRecord>> {
        let statement = format!(
            "SELECT id, {CONTENT}, {RECORD_BYTES}, gateway, coalesce(first_time, time), time, coalesce(aggregated_calls, 1) \
             FROM audit_records {index} WHERE {condition} AND time < ? ORDER BY time LIMIT ?"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(to_millis(before))
            .bind(row_limit(limit))
            .fetch_all(self.connection())
            .await
            .map_err(StoreError::backend)?;
        let record = |row: &SqliteRow| {
            Ok(PurgedRecord {
                id: row.column(0)?,
                content: parsed(row.column(1)?, "a kind of content")?,
                bytes: row.column::<u64>(2)?,
                gateway: row.column(3)?,
                first: row.column(4)?,
                last: row.column(5)?,
                calls: row.column::<u64>(6)?,
            })
        };
        rows.iter().map(record).collect()
    }

    /// Deletes records and their payloads, and returns the number of records.
    async fn delete_records(&mut self, records: &[PurgedRecord]) -> Result<u64> {
        if records.is_empty() {
            return Ok(0);
        }
        let ids = json!(records.iter().map(|record| record.id).collect::<Vec<_>>()).to_string();
        let statement = format!(
            "DELETE FROM audit_payloads WHERE record_id IN (SELECT value FROM json_each(?)) RETURNING {PAYLOAD_BYTES}"
        );
        let payloads = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(ids.clone())
            .fetch_all(self.connection())
            .await
            .map_err(StoreError::backend)?;
        self.free_payload_space(&payloads).await?;
        sqlx::query("DELETE FROM audit_records WHERE id IN (SELECT value FROM json_each(?))")
            .bind(ids)
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        let mut freed: BTreeMap<LogContent, u64> = BTreeMap::new();
        for record in records {
            *freed.entry(record.content).or_default() += record.bytes;
        }
        for (content, bytes) in freed {
            self.subtract_usage(content, bytes).await?;
        }
        Ok(records.len() as u64)
    }

    /// Stores a gap for each gateway and hour, or adds to the one that is there.
    async fn insert_purge_gaps(&mut self, cause: GapCause, records: &[PurgedRecord]) -> Result<()> {
        let purged = by_gateway_and_hour(records);
        for ((gateway, hour), PurgedCalls { first, last, calls }) in purged {
            let row = sqlx::query(
                "INSERT INTO audit_gaps (gateway, incarnation, vm, from_time, to_time, missing, cause, purged_hour) \
                 VALUES (?, '', '', ?, ?, ?, ?, ?) ON CONFLICT (gateway, cause, purged_hour) WHERE purged_hour IS NOT NULL \
                 DO UPDATE SET from_time = min(from_time, excluded.from_time), to_time = max(to_time, excluded.to_time), \
                 missing = missing + excluded.missing RETURNING missing",
            )
            .bind(gateway.to_owned())
            .bind(to_millis(first))
            .bind(to_millis(last))
            .bind(saturated(calls))
            .bind(cause.as_str())
            .bind(saturated(hour))
            .fetch_one(self.connection())
            .await
            .map_err(StoreError::backend)?;
            let is_new = row.column::<i64>(0)? == saturated(calls);
            self.add_to_gap_totals(cause, u64::from(is_new), calls).await?;
        }
        Ok(())
    }
}
