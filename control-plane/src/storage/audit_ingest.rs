//! Storing what gateways deliver: each record once, and what is missing counted.

use std::collections::HashMap;

use omniflow_policy::audit::{AuditBatch, AuditRecord, AuditSource};
use omniflow_policy::outcome::Outcome;
use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Row, Sqlite};
use uuid::Uuid;

use super::columns::{address_bytes, digest_bytes, from_millis, saturated, to_millis};
use super::{Result, StorageError, Transaction};

/// Rows in the larger of the two statements that store records. Both stay prepared, whatever a batch's size.
const ROWS_PER_STATEMENT: usize = 64;

/// The most records that may be missing between two that arrive. A VM that makes a million records a second is at it
/// for more than an hour.
const MAX_MISSING: u64 = 1 << 32;

/// Why a batch is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    /// The rows cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// More records would be missing than a VM makes.
    #[error("sequence number {found} lies too far behind {expected}, which is the next that is expected")]
    Leap {
        /// The number that follows what is stored.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

/// How far a stream of records has come.
struct StreamPlace {
    next_sequence: u64,
    last_time: Option<UnixMillis>,
}

impl Transaction<'_> {
    /// Stores the records of a batch that are new, and a gap wherever sequence numbers jump. Gives how many records
    /// are missing. No time is stored that lies behind `latest`: a gateway's clock may be wrong, and whoever holds a
    /// gateway token can claim any.
    pub(crate) async fn ingest(
        &mut self,
        mut batch: AuditBatch,
        latest: UnixMillis,
    ) -> std::result::Result<u64, IngestError> {
        for record in &mut batch.records {
            record.time = record.time.min(latest);
        }
        let mut place = self.stream_place(&batch.source).await?;
        let mut records: Vec<&AuditRecord> = batch.records.iter().collect();
        records.sort_by_key(|record| record.sequence);
        let mut all_missing = 0u64;
        let mut fresh = Vec::with_capacity(records.len());
        for record in records {
            if record.sequence < place.next_sequence {
                continue;
            }
            let missing = record.sequence - place.next_sequence;
            if missing > MAX_MISSING {
                return Err(IngestError::Leap { expected: place.next_sequence, found: record.sequence });
            }
            if missing > 0 {
                all_missing = all_missing.saturating_add(missing);
                self.insert_gap(&batch.source, &place, record.time, missing).await?;
            }
            place = StreamPlace {
                next_sequence: record.sequence.saturating_add(1),
                last_time: Some(record.time),
            };
            fresh.push(record);
        }
        let (chunks, rest) = fresh.as_chunks::<ROWS_PER_STATEMENT>();
        for chunk in chunks {
            self.insert_records(&batch.source.gateway, chunk).await?;
        }
        for record in rest {
            self.insert_records(&batch.source.gateway, &[*record]).await?;
        }
        if let Some(last_time) = place.last_time.filter(|_| !fresh.is_empty()) {
            self.set_stream_place(&batch.source, place.next_sequence, last_time).await?;
        }
        self.note_uses(&fresh, latest).await?;
        Ok(all_missing)
    }

    async fn stream_place(&mut self, source: &AuditSource) -> Result<StreamPlace> {
        let row = sqlx::query(
            "SELECT next_sequence, last_time FROM audit_streams WHERE gateway = ? AND incarnation = ? AND vm = ?",
        )
        .bind(source.gateway.clone())
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm))
        .fetch_optional(self.connection())
        .await?;
        Ok(match row {
            Some(row) => StreamPlace {
                next_sequence: row.try_get::<i64, _>(0)?.cast_unsigned(),
                last_time: Some(from_millis(row.try_get(1)?)),
            },
            None => StreamPlace { next_sequence: 0, last_time: None },
        })
    }

    async fn set_stream_place(
        &mut self,
        source: &AuditSource,
        next: u64,
        last_time: UnixMillis,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit_streams (gateway, incarnation, vm, next_sequence, last_time) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET next_sequence = excluded.next_sequence, last_time = excluded.last_time",
        )
        .bind(source.gateway.clone())
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm))
        .bind(next.cast_signed())
        .bind(to_millis(last_time))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn insert_gap(
        &mut self,
        source: &AuditSource,
        before: &StreamPlace,
        to: UnixMillis,
        missing: u64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit_gaps (gateway, incarnation, vm, from_time, to_time, missing) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(source.gateway.clone())
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm))
        .bind(before.last_time.map(to_millis))
        .bind(to_millis(to))
        .bind(saturated(missing))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn insert_records(&mut self, gateway: &str, records: &[&AuditRecord]) -> Result<()> {
        let mut statement = QueryBuilder::<Sqlite>::new(
            "INSERT INTO audit_records (time, gateway, key_id, key_name, key_version, environment, method, endpoint, \
             path, status, decision, reason, latency_us, source_ip, request_id, request_bytes, response_bytes, \
             argument_hash, argument_hash_partial) ",
        );
        statement.push_values(records, |mut row, record| {
            let key = record.key.as_ref();
            row.push_bind(to_millis(record.time))
                .push_bind(gateway.to_owned())
                .push_bind(key.map(|key| key.id))
                .push_bind(key.map(|key| key.name.clone()))
                .push_bind(key.map(|key| key.version))
                .push_bind(key.map(|key| key.environment.as_str()))
                .push_bind(record.method.clone())
                .push_bind(record.endpoint.clone())
                .push_bind(record.path.clone())
                .push_bind(record.status)
                .push_bind(record.outcome.decision())
                .push_bind(record.outcome.reason())
                .push_bind(saturated(record.latency_us))
                .push_bind(record.source_ip.map(address_bytes))
                .push_bind(record.request_id.clone())
                .push_bind(saturated(record.request_bytes))
                .push_bind(saturated(record.response_bytes))
                .push_bind(digest_bytes(record.argument_hash))
                .push_bind(record.argument_hash_partial);
        });
        statement.build().execute(self.connection()).await?;
        Ok(())
    }

    /// Remembers when each key version was last let through. A refused call is no use of a key. What is stored from
    /// before and lies behind `latest`, because the clock was wrong then, is corrected.
    async fn note_uses(&mut self, records: &[&AuditRecord], latest: UnixMillis) -> Result<()> {
        let mut uses: HashMap<(Uuid, u16), UnixMillis> = HashMap::new();
        for record in records {
            if let (Some(key), Outcome::Allowed) = (&record.key, record.outcome) {
                let last = uses.entry((key.id, key.version)).or_insert(record.time);
                *last = (*last).max(record.time);
            }
        }
        for ((key, version), time) in uses {
            sqlx::query(
                "INSERT INTO key_last_used (key_id, version, last_used_at) VALUES (?, ?, ?) \
                 ON CONFLICT DO UPDATE SET last_used_at = min(max(last_used_at, excluded.last_used_at), ?)",
            )
            .bind(key)
            .bind(version)
            .bind(to_millis(time))
            .bind(to_millis(latest))
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }
}
