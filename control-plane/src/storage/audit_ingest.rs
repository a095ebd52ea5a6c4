//! Storing what gateways deliver: each record once, and what is missing counted.

use std::collections::HashMap;

use omniflow_policy::audit::{AggregatedRefusals, AuditBatch, AuditItem, AuditRecord, AuditSource};
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::outcome::Outcome;
use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Row, Sqlite};
use uuid::Uuid;

use super::columns::{address_bytes, digest_bytes, from_millis, saturated, to_millis};
use super::{Result, StorageError, Transaction};
use crate::model::audit::GapCause;
use crate::model::payload::SealedPayload;

/// Rows in the larger of the two statements that store records. Both stay prepared, whatever a batch's size.
const ROWS_PER_STATEMENT: usize = 64;

/// The most calls that may be missing between two items that arrive, or that one item may stand for. A VM that has a
/// million calls a second is at it for more than an hour.
pub(super) const MAX_MISSING: u64 = 1 << 32;

/// The most gaps that one batch may make. A filter tells of one loss at most after each batch that was acknowledged, so
/// that few of them come together; each is a row of its own, for which all others would wait.
const MAX_GAPS: usize = 64;

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
    /// More losses than a filter has to tell at once.
    #[error("the batch tells of more than {MAX_GAPS} losses; a filter tells of one at most after each batch")]
    TooManyGaps,
}

/// What has come of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ingested {
    /// How many calls are missing by it.
    pub(crate) missing: u64,
    /// The gap that is withdrawn, because the gateway counted as lost and is there.
    pub(crate) withdrawn: Option<i64>,
}

/// How far a stream has come.
#[derive(Clone, Copy)]
struct StreamPlace {
    next_sequence: u64,
    last_time: Option<UnixMillis>,
}

/// Calls whose records never come.
pub(super) struct Missing {
    pub(super) calls: u64,
    pub(super) cause: GapCause,
    pub(super) from: Option<UnixMillis>,
    pub(super) to: UnixMillis,
    /// Whether there may be more of them.
    pub(super) is_least: bool,
}

/// What a batch brings.
#[derive(Default)]
struct Arrival<'a> {
    records: Vec<&'a AuditRecord>,
    folded: Vec<&'a AggregatedRefusals>,
    gaps: Vec<Missing>,
    /// When the first of the calls began.
    since: Option<UnixMillis>,
}

impl Transaction<'_> {
    /// Stores the items of a batch that are new, with the payloads of calls by their numbers, and a gap wherever numbers
    /// jump; and keeps the gateway's word of how far it has come, heard at `heard_at`. No time is stored that lies behind
    /// `latest`: a gateway's clock may be wrong, and whoever holds a gateway token can claim any.
    pub(crate) async fn ingest(
        &mut self,
        mut batch: AuditBatch,
        payloads: &HashMap<u64, SealedPayload>,
        heard_at: UnixMillis,
        latest: UnixMillis,
    ) -> std::result::Result<Ingested, IngestError> {
        for item in &mut batch.items {
            item.clamp_times(latest);
        }
        batch.items.sort_by_key(AuditItem::sequence);
        let source = &batch.source;
        let mut place = self.stream_place(source).await?;
        let before = place.next_sequence;
        let arrival = Arrival::of(&batch.items, &mut place)?;
        for gap in &arrival.gaps {
            self.insert_gap(&source.gateway, source.incarnation, Some(source.vm), gap).await?;
        }
        let (chunks, rest) = arrival.records.as_chunks::<ROWS_PER_STATEMENT>();
        for chunk in chunks {
            self.insert_records(&source.gateway, chunk, payloads).await?;
        }
        for record in rest {
            self.insert_records(&source.gateway, &[*record], payloads).await?;
        }
        for folded in &arrival.folded {
            self.insert_folded(&source.gateway, folded).await?;
        }
        if let Some(last_time) = place.last_time.filter(|_| place.next_sequence != before) {
            self.set_stream_place(source, place.next_sequence, last_time, arrival.since).await?;
        }
        self.note_uses(&arrival.records, latest).await?;
        self.roll_up(&arrival.records).await?;
        let missing = arrival.gaps.iter().fold(0, |sum: u64, gap| sum.saturating_add(gap.calls));
        let withdrawn = match batch.delivery {
            Some(mut progress) => {
                progress.clamp_times(latest);
                self.note_progress(source, &progress, heard_at).await?
            }
            None => None,
        };
        Ok(Ingested { missing, withdrawn })
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
        since: Option<UnixMillis>,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit_streams (gateway, incarnation, vm, next_sequence, last_time, since) \
             VALUES (?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET next_sequence = excluded.next_sequence, last_time = excluded.last_time, \
             since = coalesce(excluded.since, since)",
        )
        .bind(source.gateway.clone())
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm))
        .bind(next.cast_signed())
        .bind(to_millis(last_time))
        .bind(since.map(to_millis))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Stores a gap of a VM, or of a whole gateway, and gives its number.
    pub(super) async fn insert_gap(
        &mut self,
        gateway: &str,
        incarnation: Incarnation,
        vm: Option<Incarnation>,
        gap: &Missing,
    ) -> Result<i64> {
        let inserted = sqlx::query(
            "INSERT INTO audit_gaps (gateway, incarnation, vm, from_time, to_time, missing, cause, at_least) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(gateway.to_owned())
        .bind(String::from(incarnation))
        .bind(vm.map(String::from).unwrap_or_default())
        .bind(gap.from.map(to_millis))
        .bind(to_millis(gap.to))
        .bind(saturated(gap.calls))
        .bind(gap.cause.as_str())
        .bind(gap.is_least)
        .execute(self.connection())
        .await?;
        sqlx::query(
            "INSERT INTO gap_totals (cause, gaps, calls) VALUES (?, 1, ?) \
             ON CONFLICT DO UPDATE SET gaps = gaps + 1, calls = min(calls, ?) + excluded.calls",
        )
        .bind(gap.cause.as_str())
        .bind(saturated(gap.calls))
        // No sum of claims is beyond what the column holds.
        .bind(i64::MAX - saturated(gap.calls))
        .execute(self.connection())
        .await?;
        Ok(inserted.last_insert_rowid())
    }

    /// Takes a gap back. What was told of it elsewhere can be corrected by the row that stands for this.
    pub(super) async fn withdraw_gap(&mut self, gap: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit_gaps (gateway, incarnation, vm, from_time, to_time, missing, cause, at_least, withdraws) \
             SELECT gateway, incarnation, vm, from_time, to_time, missing, cause, at_least, id FROM audit_gaps \
             WHERE id = ?",
        )
        .bind(gap)
        .execute(self.connection())
        .await?;
        sqlx::query("DELETE FROM audit_gaps WHERE id = ?").bind(gap).execute(self.connection()).await?;
        Ok(())
    }

    /// Stores refusals that were folded. What no single call of them has in common with the others stays empty.
    async fn insert_folded(&mut self, gateway: &str, folded: &AggregatedRefusals) -> Result<()> {
        let outcome = Outcome::Denied(folded.reason);
        sqlx::query(
            "INSERT INTO audit_records (time, first_time, folded_calls, gateway, method, path, status, decision, \
             reason, latency_us, source_ip, request_id, request_bytes, response_bytes, argument_hash, \
             argument_hash_partial) VALUES (?, ?, ?, ?, '', '', ?, ?, ?, 0, ?, '', 0, 0, x'', false)",
        )
        .bind(to_millis(folded.last_time))
        .bind(to_millis(folded.first_time))
        .bind(saturated(folded.calls))
        .bind(gateway.to_owned())
        .bind(folded.reason.status())
        .bind(outcome.decision())
        .bind(outcome.reason())
        .bind(folded.source_ip.map(address_bytes))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn insert_records(
        &mut self,
        gateway: &str,
        records: &[&AuditRecord],
        payloads: &HashMap<u64, SealedPayload>,
    ) -> Result<()> {
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
        let inserted = statement.build().execute(self.connection()).await?;
        // Nobody else writes meanwhile, so that one statement's rows have consecutive numbers.
        let first =
            inserted.last_insert_rowid().saturating_sub_unsigned(records.len() as u64).saturating_add(1);
        for (id, record) in (first..).zip(records) {
            if let Some(payload) = payloads.get(&record.sequence) {
                self.insert_payload(id, record.time, payload).await?;
            }
        }
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

// === impl Arrival ===

impl<'a> Arrival<'a> {
    /// Takes what is new of these items, which are in the order of their numbers, and moves the place behind them.
    fn of(items: &'a [AuditItem], place: &mut StreamPlace) -> std::result::Result<Self, IngestError> {
        let mut arrival = Self::default();
        for item in items {
            let (expected, start, end) = (place.next_sequence, item.sequence(), item.next_sequence());
            // Of calls that a VM is said to have lost, some may have come: it died before it heard so.
            let is_new = match item {
                AuditItem::Call(_) | AuditItem::CallWithPayload(..) | AuditItem::Aggregated(_) => {
                    start >= expected
                }
                AuditItem::Gap(_) => end > expected,
            };
            if !is_new {
                continue;
            }
            let skipped = start.saturating_sub(expected);
            if skipped > MAX_MISSING || item.calls() > MAX_MISSING {
                return Err(IngestError::Leap { expected, found: start.max(end.saturating_sub(1)) });
            }
            arrival.since = arrival.since.into_iter().chain(item.first_time()).min();
            if skipped > 0 {
                arrival.miss(place, skipped, GapCause::Unknown, None, item.time());
            }
            match item {
                AuditItem::Call(record) | AuditItem::CallWithPayload(record, _) => {
                    arrival.records.push(record)
                }
                AuditItem::Aggregated(folded) => arrival.folded.push(folded),
                AuditItem::Gap(lost) => {
                    arrival.miss(place, end - start.max(expected), lost.cause.into(), lost.from, lost.to);
                }
            }
            if arrival.gaps.len() > MAX_GAPS {
                return Err(IngestError::TooManyGaps);
            }
            *place = StreamPlace { next_sequence: end, last_time: Some(item.time()) };
        }
        Ok(arrival)
    }

    fn miss(
        &mut self,
        before: &StreamPlace,
        calls: u64,
        cause: GapCause,
        from: Option<UnixMillis>,
        to: UnixMillis,
    ) {
        let from = from.or(before.last_time).map(|from| from.min(to));
        self.gaps.push(Missing { calls, cause, from, to, is_least: false });
    }
}
