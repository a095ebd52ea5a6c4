//! Stores batches of gateways: each item once, and gaps. One statement for each table, whatever the size of a batch.

use std::collections::HashMap;

use async_trait::async_trait;
use omniflow_domain::gateway::GatewayId;
use omniflow_domain::payload::SealedPayload;
use omniflow_policy::audit::{AuditBatch, AuditRecord, AuditSource};
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::gateways::stream_place;
use omniflow_store::encoding::to_millis;
use omniflow_store::ingest::{Arrival, StreamPlace, prepare, reports_crash};
use omniflow_store::{IngestError, Ingested, RequestLogWrites, Result};

use super::rows::RecordRows;
use crate::partitions::days_of;
use crate::text::storable;
use crate::transaction::PostgresTransaction;
use crate::usage::Usage;

#[async_trait]
impl RequestLogWrites for PostgresTransaction {
    async fn ingest(
        &mut self,
        mut batch: AuditBatch,
        payloads: &HashMap<u64, SealedPayload>,
        heard_at: UnixMillis,
        latest: UnixMillis,
    ) -> std::result::Result<Ingested, IngestError> {
        self.set_ingest();
        prepare(&mut batch, heard_at, latest);
        batch.source.gateway = storable(&batch.source.gateway).into_owned();
        let source = &batch.source;
        let mut place = self.stream_place(source).await?;
        let before = place.next_sequence;
        let arrival = Arrival::of(&batch.items, &mut place)?;
        self.insert_arrival(source, &arrival, payloads, heard_at).await?;
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

impl PostgresTransaction {
    /// Inserts the gaps, the records and their payloads, and adds up the space that they take up.
    async fn insert_arrival(
        &mut self,
        source: &AuditSource,
        arrival: &Arrival<'_>,
        payloads: &HashMap<u64, SealedPayload>,
        heard_at: UnixMillis,
    ) -> Result<()> {
        let Arrival { records, aggregated, gaps, .. } = arrival;
        let count = records.len() + aggregated.len();
        if count == 0 && gaps.is_empty() {
            return Ok(());
        }
        let times = records.iter().map(|record| record.time);
        let times = times.chain(aggregated.iter().map(|aggregate| aggregate.last_time));
        let days = if count > 0 { days_of(times, heard_at) } else { Vec::new() };
        let numbers = self.take_numbers(count, gaps.len(), days).await?;
        let id = GatewayId { gateway: source.gateway.clone(), incarnation: source.incarnation };
        self.insert_gaps(&id, Some(source.vm), numbers.before_gaps, gaps).await?;
        let rows = RecordRows::of(records, aggregated);
        self.insert_rows(&source.gateway, numbers.before_records, rows).await?;
        let first = numbers.before_records.saturating_add(1);
        let payload = |(id, record): (i64, &&_)| stored_payload(id, record, payloads);
        let payloads: Vec<_> = (first..).zip(records).filter_map(payload).collect();
        self.insert_payloads(&payloads).await?;
        self.add_usage(&Usage::of(numbers.before_records, records, aggregated, &payloads)).await
    }

    async fn stream_place(&mut self, source: &AuditSource) -> Result<StreamPlace> {
        let query = sqlx::query(
            "SELECT next_sequence, last_time FROM audit_streams WHERE gateway = $1 AND incarnation = $2 AND vm = $3",
        )
        .bind(&source.gateway)
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm));
        stream_place(self.connection().optional_row(query).await?.as_ref())
    }

    async fn set_stream_place(
        &mut self,
        source: &AuditSource,
        next: u64,
        last_time: UnixMillis,
        since: Option<UnixMillis>,
    ) -> Result<()> {
        let statement = sqlx::query(
            "INSERT INTO audit_streams AS stream (gateway, incarnation, vm, next_sequence, last_time, since) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (gateway, incarnation, vm) DO UPDATE \
             SET next_sequence = excluded.next_sequence, last_time = excluded.last_time, \
             since = coalesce(excluded.since, stream.since)",
        )
        .bind(&source.gateway)
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm))
        .bind(next.cast_signed())
        .bind(to_millis(last_time))
        .bind(since.map(to_millis));
        self.connection().execute(statement).await?;
        Ok(())
    }
}

/// The payload of a record, with the record's number and time.
fn stored_payload<'a>(
    id: i64,
    record: &AuditRecord,
    payloads: &'a HashMap<u64, SealedPayload>,
) -> Option<(i64, UnixMillis, &'a SealedPayload)> {
    Some((id, record.time, payloads.get(&record.sequence)?))
}
