//! The approximate size of the content of the request log, by kind and day.

use std::collections::BTreeMap;

use omniflow_domain::log_content::LogContent;
use omniflow_domain::payload::SealedPayload;
use omniflow_policy::audit::{AuditKey, AuditRecord, CallAggregate};
use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;
use omniflow_store::Result;
use omniflow_store::encoding::{Columns, parsed, saturated};
use sqlx::postgres::PgRow;

use crate::PostgresStore;
use crate::partitions::day_of;
use crate::transaction::PostgresTransaction;

/// The size of a record with its index entries, without its path and its request ID, as measured with 100,000 records of 200
/// keys and 5,000 addresses on PostgreSQL 15.
pub(crate) const RECORD_BYTES: u64 = 770;
/// The same of a payload, without its ciphertext.
pub(crate) const PAYLOAD_BYTES: u64 = 116;

/// Rows, their approximate size in bytes, and the lowest and the highest number of their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    records: u64,
    bytes: u64,
    first_record: i64,
    last_record: i64,
}

/// The usage of rows by day and kind of content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage(BTreeMap<(i64, LogContent), Share>);

/// The approximate size of a record. It must not change while the record exists.
pub(crate) fn record_bytes(path: &str, request_id: &str) -> u64 {
    RECORD_BYTES + (path.len() + request_id.len()) as u64
}

/// The approximate size of a payload.
pub(crate) fn payload_bytes(sealed: u64) -> u64 {
    PAYLOAD_BYTES.saturating_add(sealed)
}

fn content_of(key: Option<&AuditKey>, outcome: Outcome) -> LogContent {
    match (key, outcome) {
        (None, _) => LogContent::WithoutKey,
        (Some(_), Outcome::Allowed) => LogContent::Allowed,
        (Some(_), _) => LogContent::Refused,
    }
}

// === impl Usage ===

impl Usage {
    /// The usage of the rows of a batch, of which the records, and then the aggregates, have the numbers after `before`.
    pub(crate) fn of(
        before: i64,
        records: &[&AuditRecord],
        aggregated: &[&CallAggregate],
        payloads: &[(i64, UnixMillis, &SealedPayload)],
    ) -> Self {
        let mut usage = Self::default();
        let mut numbers = before.saturating_add(1)..;
        for (record, id) in records.iter().zip(&mut numbers) {
            let bytes = record_bytes(&record.path, &record.request_id);
            usage.add(day_of(record.time), content_of(record.key.as_ref(), record.outcome), id, bytes);
        }
        for (aggregate, id) in aggregated.iter().zip(numbers) {
            let content = content_of(aggregate.key.as_ref(), aggregate.outcome);
            usage.add(day_of(aggregate.last_time), content, id, RECORD_BYTES);
        }
        for (id, time, payload) in payloads {
            usage.add(day_of(*time), LogContent::Payloads, *id, payload_bytes(payload.sealed.len() as u64));
        }
        usage
    }

    /// Adds a row of the record with this number.
    pub(crate) fn add(&mut self, day: i64, content: LogContent, record: i64, bytes: u64) {
        let none = Share { records: 0, bytes: 0, first_record: record, last_record: record };
        let share = self.0.entry((day, content)).or_insert(none);
        share.records += 1;
        share.bytes = share.bytes.saturating_add(bytes);
        share.first_record = share.first_record.min(record);
        share.last_record = share.last_record.max(record);
    }

    fn days(&self) -> Vec<i64> {
        self.0.keys().map(|(day, _)| *day).collect()
    }

    fn contents(&self) -> Vec<&'static str> {
        self.0.keys().map(|(_, content)| content.as_str()).collect()
    }

    fn records(&self) -> Vec<i64> {
        self.0.values().map(|share| saturated(share.records)).collect()
    }

    fn bytes(&self) -> Vec<i64> {
        self.0.values().map(|share| saturated(share.bytes)).collect()
    }
}

impl PostgresStore {
    pub(crate) async fn read_log_usage(&self) -> Result<Vec<(LogContent, u64)>> {
        let query = sqlx::query("SELECT content, sum(bytes)::bigint FROM log_usage GROUP BY content");
        let rows = self.database.reader().await?.rows(query).await?;
        let usage = |row: &PgRow| {
            let content = parsed(row.column(0)?, "a kind of content")?;
            Ok((content, u64::try_from(row.column::<i64>(1)?).unwrap_or_default()))
        };
        rows.iter().map(usage).collect()
    }
}

impl PostgresTransaction {
    /// Adds inserted rows.
    pub(crate) async fn add_usage(&mut self, usage: &Usage) -> Result<()> {
        if usage.0.is_empty() {
            return Ok(());
        }
        let statement = sqlx::query(
            "INSERT INTO log_usage AS usage (day, content, records, bytes, written, first_record, last_record) \
             SELECT day, content, records, bytes, bytes, first_record, last_record \
             FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
             AS added (day, content, records, bytes, first_record, last_record) \
             ON CONFLICT (day, content) DO UPDATE SET records = usage.records + excluded.records, \
             bytes = usage.bytes + excluded.bytes, written = usage.written + excluded.written, \
             first_record = least(usage.first_record, excluded.first_record), \
             last_record = greatest(usage.last_record, excluded.last_record)",
        )
        .bind(usage.days())
        .bind(usage.contents())
        .bind(usage.records())
        .bind(usage.bytes())
        .bind(usage.0.values().map(|share| share.first_record).collect::<Vec<_>>())
        .bind(usage.0.values().map(|share| share.last_record).collect::<Vec<_>>());
        self.connection().execute(statement).await?;
        Ok(())
    }

    /// Subtracts deleted rows.
    pub(crate) async fn subtract_usage(&mut self, usage: &Usage) -> Result<()> {
        if usage.0.is_empty() {
            return Ok(());
        }
        let statement = sqlx::query(
            "UPDATE log_usage AS usage SET records = greatest(0, usage.records - deleted.records), \
             bytes = greatest(0, usage.bytes - deleted.bytes) \
             FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) AS deleted (day, content, records, bytes) \
             WHERE usage.day = deleted.day AND usage.content = deleted.content",
        )
        .bind(usage.days())
        .bind(usage.contents())
        .bind(usage.records())
        .bind(usage.bytes());
        self.connection().execute(statement).await?;
        Ok(())
    }

    /// Corrects the usage of a kind of content that has no rows on a day.
    pub(crate) async fn clear_usage(&mut self, content: LogContent, day: i64) -> Result<()> {
        let statement =
            sqlx::query("UPDATE log_usage SET records = 0, bytes = 0 WHERE content = $1 AND day = $2")
                .bind(content.as_str())
                .bind(day);
        self.connection().execute(statement).await?;
        Ok(())
    }
}
