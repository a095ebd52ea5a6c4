//! Stores batches of gateways: each item once, and gaps.

use std::collections::HashMap;

use async_trait::async_trait;
use omniflow_domain::audit::GapCause;
use omniflow_domain::payload::SealedPayload;
use omniflow_policy::audit::{AuditBatch, AuditRecord, AuditSource, CallAggregate, Interruption};
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::gateways::stream_place;
use omniflow_store::encoding::{address_bytes, digest_bytes, saturated, to_millis};
use omniflow_store::ingest::{Arrival, Missing, StreamPlace, last_uses, prepare, reports_crash};
use omniflow_store::{IngestError, Ingested, RequestLogWrites, Result, StoreError};
use sqlx::{QueryBuilder, Sqlite};

use crate::database::SqliteTransaction;

/// Rows in the larger of the two statements that insert records. Both stay prepared, whatever the size of a batch.
const ROWS_PER_STATEMENT: usize = 64;

#[async_trait]
impl RequestLogWrites for SqliteTransaction {
    async fn ingest(
        &mut self,
        mut batch: AuditBatch,
        payloads: &HashMap<u64, SealedPayload>,
        heard_at: UnixMillis,
        latest: UnixMillis,
    ) -> std::result::Result<Ingested, IngestError> {
        self.set_ingest();
        prepare(&mut batch, heard_at, latest);
        let source = &batch.source;
        let mut place = self.stream_place(source).await?;
        let before = place.next_sequence;
        let arrival = Arrival::of(&batch.items, &mut place)?;
        for gap in &arrival.gaps {
            self.insert_gap(&source.gateway, source.incarnation, Some(source.vm), gap).await?;
        }
        let last_record = self.last_record().await?;
        let (chunks, rest) = arrival.records.as_chunks::<ROWS_PER_STATEMENT>();
        for chunk in chunks {
            self.insert_records(&source.gateway, chunk, payloads).await?;
        }
        for record in rest {
            self.insert_records(&source.gateway, &[*record], payloads).await?;
        }
        for aggregated in &arrival.aggregated {
            self.insert_aggregated(&source.gateway, aggregated).await?;
        }
        self.add_usage(last_record).await?;
        if let Some(last_time) = place.last_time.filter(|_| place.next_sequence != before) {
            self.set_stream_place(source, place.next_sequence, last_time, arrival.since).await?;
        }
        self.update_calls_in_progress(source, &arrival).await?;
        if reports_crash(&batch.items) {
            self.mark_calls_of_vm_lost(source).await?;
        }
        self.note_uses(&arrival, latest).await?;
        self.roll_up(&arrival.records, &arrival.aggregated).await?;
        let missing = arrival.missing();
        let withdrawn = match batch.delivery {
            Some(progress) => self.record_report(source, &progress, heard_at).await?,
            None => None,
        };
        Ok(Ingested { missing, withdrawn })
    }
}

impl SqliteTransaction {
    async fn stream_place(&mut self, source: &AuditSource) -> Result<StreamPlace> {
        let row = sqlx::query(
            "SELECT next_sequence, last_time FROM audit_streams WHERE gateway = ? AND incarnation = ? AND vm = ?",
        )
        .bind(source.gateway.clone())
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm))
        .fetch_optional(self.connection())
        .await
        .map_err(StoreError::backend)?;
        stream_place(row.as_ref())
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
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }

    /// Inserts a gap of a VM, or of a whole gateway, and returns its number.
    pub(crate) async fn insert_gap(
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
        .await
        .map_err(StoreError::backend)?;
        self.add_to_gap_totals(gap.cause, 1, gap.calls).await?;
        Ok(inserted.last_insert_rowid())
    }

    pub(crate) async fn add_to_gap_totals(&mut self, cause: GapCause, gaps: u64, calls: u64) -> Result<()> {
        sqlx::query(
            "INSERT INTO gap_totals (cause, gaps, calls) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET gaps = gaps + excluded.gaps, calls = min(calls, ?) + excluded.calls",
        )
        .bind(cause.as_str())
        .bind(saturated(gaps))
        .bind(saturated(calls))
        // Saturates at the end of the column's range.
        .bind(i64::MAX - saturated(calls))
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }

    /// Withdraws a gap. The row that replaces it allows an exporter to correct what it has sent.
    pub(crate) async fn withdraw_gap(&mut self, gap: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit_gaps (gateway, incarnation, vm, from_time, to_time, missing, cause, at_least, withdraws) \
             SELECT gateway, incarnation, vm, from_time, to_time, missing, cause, at_least, id FROM audit_gaps \
             WHERE id = ?",
        )
        .bind(gap)
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        sqlx::query("DELETE FROM audit_gaps WHERE id = ?")
            .bind(gap)
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }

    /// Inserts aggregated calls. Columns that differ between the calls stay empty.
    async fn insert_aggregated(&mut self, gateway: &str, aggregated: &CallAggregate) -> Result<()> {
        let key = aggregated.key.as_ref();
        sqlx::query(
            "INSERT INTO audit_records (time, first_time, aggregated_calls, gateway, key_id, key_name, key_version, \
             environment, method, path, status, decision, reason, latency_us, source_ip, request_id, request_bytes, \
             response_bytes, argument_hash, argument_hash_partial) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', ?, ?, ?, 0, ?, '', 0, 0, x'', false)",
        )
        .bind(to_millis(aggregated.last_time))
        .bind(to_millis(aggregated.first_time))
        .bind(saturated(aggregated.calls))
        .bind(gateway.to_owned())
        .bind(key.map(|key| key.id))
        .bind(key.map(|key| key.name.clone()))
        .bind(key.map(|key| key.version))
        .bind(key.map(|key| key.environment.as_str()))
        .bind(aggregated.status)
        .bind(aggregated.outcome.decision())
        .bind(aggregated.outcome.reason())
        .bind(aggregated.source_ip.map(address_bytes))
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
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
             path, status, grpc_status, interruption, decision, reason, latency_us, source_ip, request_id, request_bytes, \
             response_bytes, argument_hash, argument_hash_partial) ",
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
                .push_bind(record.grpc_status)
                .push_bind(record.interruption.map(Interruption::as_str))
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
        let inserted = statement.build().execute(self.connection()).await.map_err(StoreError::backend)?;
        // There is no other writer, so the rows of one statement have consecutive numbers.
        let first =
            inserted.last_insert_rowid().saturating_sub_unsigned(records.len() as u64).saturating_add(1);
        for (id, record) in (first..).zip(records) {
            if let Some(payload) = payloads.get(&record.sequence) {
                self.insert_payload(id, record.time, payload).await?;
            }
        }
        Ok(())
    }

    /// Updates the time of the last allowed call of each key version, calls in progress included. Corrects stored times after `latest`, which a wrong clock
    /// caused.
    async fn note_uses(&mut self, arrival: &Arrival<'_>, latest: UnixMillis) -> Result<()> {
        for ((key, version), time) in last_uses(arrival) {
            sqlx::query(
                "INSERT INTO key_last_used (key_id, version, last_used_at) VALUES (?, ?, ?) \
                 ON CONFLICT DO UPDATE SET last_used_at = min(max(last_used_at, excluded.last_used_at), ?)",
            )
            .bind(key)
            .bind(version)
            .bind(to_millis(time))
            .bind(to_millis(latest))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        }
        Ok(())
    }
}
