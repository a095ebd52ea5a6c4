//! Purges records and payloads, and stores gaps for records that are purged early.
//!
//! A day that is purged as a whole costs the same however many records it has. That needs a lock that no reader of the log
//! holds. While this waits for one, other readers wait too, so it does not wait long, and deletes rows instead.

use omniflow_domain::audit::GapCause;
use omniflow_domain::log_content::LogContent;
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::{Columns, parsed, row_limit, saturated, to_millis};
use omniflow_store::purge::{PurgedRecord, by_gateway_and_hour};
use omniflow_store::{Result, StoreError};
use sqlx::postgres::PgRow;

use crate::PostgresStore;
use crate::partitions::{day_of, end_of, start_of};
use crate::transaction::PostgresTransaction;
use crate::usage::{Usage, payload_bytes, record_bytes};

/// The kind of a record, as in [`LogContent`].
const CONTENT: &str =
    "CASE WHEN key_id IS NULL THEN 'without_key' WHEN reason = 'allowed' THEN 'allowed' ELSE 'refused' END";
/// How long a purge of a whole day waits for readers.
const LOCK_LIMIT: &str = "SET LOCAL lock_timeout = '200ms'";

impl PostgresStore {
    /// Drops the oldest day, if it ended before `before` and no reader is in the way, and returns how many records it had.
    pub(crate) async fn drop_oldest_day(&self, before: UnixMillis) -> Result<Option<u64>> {
        let query = sqlx::query("SELECT min(day) FROM audit_days");
        let day: Option<i64> = self.database.reader().await?.row(query).await?.column(0)?;
        let Some(day) = day.filter(|day| end_of(*day) <= before) else { return Ok(None) };
        let mut transaction = self.begin_log().await?;
        transaction.connection().execute(sqlx::query(LOCK_LIMIT)).await?;
        // Another process may have dropped it meanwhile.
        let statement = sqlx::query("SELECT drop_audit_day(day) FROM audit_days WHERE day = $1").bind(day);
        let dropped = match transaction.connection().optional_row(statement).await {
            Ok(Some(row)) => row.column::<u64>(0)?,
            Ok(None) => 0,
            Err(StoreError::Unavailable(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        transaction.commit().await?;
        Ok(Some(dropped))
    }

    /// The same of the payloads of a day, whose records remain.
    pub(crate) async fn empty_oldest_payloads(&self, before: UnixMillis) -> Result<Option<u64>> {
        let query = sqlx::query("SELECT min(day) FROM log_usage WHERE content = 'payloads' AND records > 0");
        let day: Option<i64> = self.database.reader().await?.row(query).await?.column(0)?;
        let Some(day) = day.filter(|day| end_of(*day) <= before) else { return Ok(None) };
        let mut transaction = self.begin_log().await?;
        transaction.connection().execute(sqlx::query(LOCK_LIMIT)).await?;
        let statement =
            sqlx::query("SELECT empty_audit_payloads(day) FROM audit_days WHERE day = $1").bind(day);
        let purged = match transaction.connection().optional_row(statement).await {
            Ok(Some(row)) => row.column::<u64>(0)?,
            Ok(None) => 0,
            Err(StoreError::Unavailable(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        transaction.commit().await?;
        Ok(Some(purged))
    }
}

impl PostgresTransaction {
    /// Purges up to `limit` of the oldest records that began before `before`.
    pub(crate) async fn purge_old_records(&mut self, before: UnixMillis, limit: usize) -> Result<u64> {
        let contents = [LogContent::WithoutKey, LogContent::Refused, LogContent::Allowed];
        while let Some(day) = self.oldest_day(&contents, before).await? {
            let records = self.oldest_records("true", day, before, limit).await?;
            if !records.is_empty() {
                return self.delete_records(&records).await;
            }
            if end_of(day) > before {
                break;
            }
            for content in contents {
                self.clear_usage(content, day).await?;
            }
        }
        Ok(0)
    }

    /// Purges up to `limit` of the oldest items of this kind, and stores gaps for records.
    pub(crate) async fn purge_oldest(&mut self, content: LogContent, limit: usize) -> Result<u64> {
        let latest = UnixMillis(u64::MAX);
        let condition = match content {
            LogContent::WithoutKey => "key_id IS NULL",
            LogContent::Refused => "key_id IS NOT NULL AND reason <> 'allowed'",
            LogContent::Allowed => "reason = 'allowed' AND key_id IS NOT NULL",
            LogContent::Payloads => return self.purge_payloads(latest, limit).await,
        };
        while let Some(day) = self.oldest_day(&[content], latest).await? {
            let records = self.oldest_records(condition, day, latest, limit).await?;
            if records.is_empty() {
                self.clear_usage(content, day).await?;
                continue;
            }
            if let Some(cause) = content.gap_cause() {
                self.insert_purge_gaps(cause, &records).await?;
            }
            return self.delete_records(&records).await;
        }
        Ok(0)
    }

    /// Purges up to `limit` of the oldest payloads of calls that began before `before`.
    pub(crate) async fn purge_payloads(&mut self, before: UnixMillis, limit: usize) -> Result<u64> {
        while let Some(day) = self.oldest_day(&[LogContent::Payloads], before).await? {
            let query = sqlx::query(
                "SELECT record_id, time FROM audit_payloads WHERE time >= $1 AND time < $2 ORDER BY time LIMIT $3",
            )
            .bind(to_millis(start_of(day)))
            .bind(to_millis(end_of(day).min(before)))
            .bind(row_limit(limit));
            let rows = self.connection().rows(query).await?;
            let payload = |row: &PgRow| Ok((row.column::<i64>(0)?, row.column::<i64>(1)?));
            let (ids, times): (Vec<_>, Vec<_>) = rows.iter().map(payload).collect::<Result<_>>()?;
            if !ids.is_empty() {
                return self.delete_payloads(ids, &times).await;
            }
            if end_of(day) > before {
                break;
            }
            self.clear_usage(LogContent::Payloads, day).await?;
        }
        Ok(0)
    }

    /// The oldest day with content of these kinds, if it began before `before`. It may have none, because sizes are
    /// approximate.
    async fn oldest_day(&mut self, contents: &[LogContent], before: UnixMillis) -> Result<Option<i64>> {
        let query = sqlx::query("SELECT min(day) FROM log_usage WHERE content = ANY($1) AND records > 0")
            .bind(contents.iter().map(|content| content.as_str()).collect::<Vec<_>>());
        let day: Option<i64> = self.connection().row(query).await?.column(0)?;
        Ok(day.filter(|day| start_of(*day) < before))
    }

    async fn oldest_records(
        &mut self,
        condition: &str,
        day: i64,
        before: UnixMillis,
        limit: usize,
    ) -> Result<Vec<PurgedRecord>> {
        let query = sqlx::AssertSqlSafe(format!(
            "SELECT id, {CONTENT}, path, request_id, gateway, coalesce(first_time, time), time, \
             coalesce(aggregated_calls, 1) FROM audit_records \
             WHERE {condition} AND time >= $1 AND time < $2 ORDER BY time LIMIT $3"
        ));
        let query = sqlx::query(query)
            .bind(to_millis(start_of(day)))
            .bind(to_millis(end_of(day).min(before)))
            .bind(row_limit(limit));
        let record = |row: &PgRow| {
            Ok(PurgedRecord {
                id: row.column(0)?,
                content: parsed(row.column(1)?, "a kind of content")?,
                bytes: record_bytes(row.column(2)?, row.column(3)?),
                gateway: row.column(4)?,
                first: row.column(5)?,
                last: row.column(6)?,
                calls: row.column::<u64>(7)?,
            })
        };
        self.connection().rows(query).await?.iter().map(record).collect()
    }

    /// Deletes records and their payloads, and returns the number of records.
    async fn delete_records(&mut self, records: &[PurgedRecord]) -> Result<u64> {
        let ids: Vec<i64> = records.iter().map(|record| record.id).collect();
        let times: Vec<i64> = records.iter().map(|record| to_millis(record.last)).collect();
        let Some((first, last)) = times.iter().min().zip(times.iter().max()) else { return Ok(0) };
        // The times select the partitions.
        let statement =
            sqlx::query("DELETE FROM audit_records WHERE id = ANY($1) AND time BETWEEN $2 AND $3")
                .bind(&ids)
                .bind(first)
                .bind(last);
        self.connection().execute(statement).await?;
        let mut usage = Usage::default();
        for record in records {
            usage.add(day_of(record.last), record.content, record.id, record.bytes);
        }
        self.subtract_usage(&usage).await?;
        self.delete_payloads(ids, &times).await?;
        Ok(records.len() as u64)
    }

    /// Deletes the payloads of these records, which have these times, and returns their number.
    async fn delete_payloads(&mut self, records: Vec<i64>, times: &[i64]) -> Result<u64> {
        let Some((first, last)) = times.iter().min().zip(times.iter().max()) else { return Ok(0) };
        let statement = sqlx::query(
            "DELETE FROM audit_payloads WHERE record_id = ANY($1) AND time BETWEEN $2 AND $3 \
             RETURNING time, octet_length(sealed), record_id",
        )
        .bind(records)
        .bind(first)
        .bind(last);
        let rows = self.connection().rows(statement).await?;
        let mut usage = Usage::default();
        for row in &rows {
            let sealed = row.column::<u64>(1)?;
            let day = day_of(row.column(0)?);
            usage.add(day, LogContent::Payloads, row.column(2)?, payload_bytes(sealed));
        }
        self.subtract_usage(&usage).await?;
        Ok(rows.len() as u64)
    }

    /// Stores a gap for each gateway and hour, or adds to the one that is there.
    async fn insert_purge_gaps(&mut self, cause: GapCause, records: &[PurgedRecord]) -> Result<()> {
        let purged = by_gateway_and_hour(records);
        if purged.is_empty() {
            return Ok(());
        }
        let before = self.take_numbers(0, purged.len(), Vec::new()).await?.before_gaps;
        let statement = sqlx::query(
            "INSERT INTO audit_gaps AS gap (id, gateway, incarnation, vm, from_time, to_time, missing, cause, purged_hour) \
             SELECT $1 + n, gateway, '', '', from_time, to_time, missing, $2, hour \
             FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) WITH ORDINALITY \
             AS purged (gateway, hour, from_time, to_time, missing, n) \
             ON CONFLICT (gateway, cause, purged_hour) WHERE purged_hour IS NOT NULL DO UPDATE \
             SET from_time = least(gap.from_time, excluded.from_time), to_time = greatest(gap.to_time, excluded.to_time), \
             missing = gap.missing + excluded.missing RETURNING gap.id > $1",
        )
        .bind(before)
        .bind(cause.as_str())
        .bind(purged.keys().map(|(gateway, _)| *gateway).collect::<Vec<_>>())
        .bind(purged.keys().map(|(_, hour)| saturated(*hour)).collect::<Vec<_>>())
        .bind(purged.values().map(|calls| to_millis(calls.first)).collect::<Vec<_>>())
        .bind(purged.values().map(|calls| to_millis(calls.last)).collect::<Vec<_>>())
        .bind(purged.values().map(|calls| saturated(calls.calls)).collect::<Vec<_>>());
        let rows = self.connection().rows(statement).await?;
        let is_new = rows.iter().map(|row| row.column(0)).collect::<Result<Vec<bool>>>()?;
        let new = is_new.into_iter().filter(|is_new| *is_new).count() as u64;
        let calls = purged.values().fold(0, |sum: u64, purged| sum.saturating_add(purged.calls));
        self.add_to_gap_totals(cause, new, calls).await
    }
}

#[cfg(test)]
mod tests {
    use omniflow_store::contract::fixtures::{DAY, START, ingest, record};
    use omniflow_store::{RequestLogStore, RetentionStore};
    use sqlx::Connection;

    use super::*;
    use crate::test_store::{new_store, rows};

    const MIDNIGHT: u64 = START / DAY * DAY;

    async fn has_table(store: &PostgresStore, name: &str) -> bool {
        let found = rows(store, &format!("SELECT to_regclass('{name}') IS NOT NULL")).await;
        found[0].column(0).unwrap()
    }

    #[tokio::test]
    async fn day_with_a_reader_is_purged_by_the_row() {
        let (store, _database) = new_store().await;
        ingest(&store, (0..5).map(|n| record(n, MIDNIGHT + n, None)).collect()).await;
        ingest(&store, vec![record(5, MIDNIGHT + 2 * DAY, None)]).await;
        let mut reader = store.database.connect().await.unwrap();
        let mut reading = reader.begin().await.unwrap();
        sqlx::query("SELECT count(*) FROM audit_records").fetch_one(&mut *reading).await.unwrap();
        let before = UnixMillis(MIDNIGHT + DAY);
        assert_eq!(store.purge_records(before, 2).await.unwrap(), 2);
        assert!(has_table(&store, "audit_records_20270115").await);
        reading.rollback().await.unwrap();
        assert_eq!(store.purge_records(before, 2).await.unwrap(), 3);
        assert!(!has_table(&store, "audit_records_20270115").await);
        assert!(!has_table(&store, "audit_payloads_20270115").await);
        assert_eq!(store.purge_records(before, 2).await.unwrap(), 0);
        assert_eq!(store.newest_record().await.unwrap(), 6);
    }
}
