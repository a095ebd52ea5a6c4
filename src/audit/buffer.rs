//! The buffer of one VM's audit records.
//!
//! Records stay in the buffer until the control plane has acknowledged them. When the buffer is full, new records are dropped and counted; a
//! gap with their number and time span follows the next acknowledged batch. Refusals without a known key are aggregated when
//! there are many. Payloads have half as much room beside the records; beyond it a record is sent without its payload.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use omniflow_policy::audit::{
    AuditBatch, AuditItem, AuditRecord, AuditSource, RefusalAggregator, ReportedGap, ReportedGapCause, WINDOW,
};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::payload::{CallPayload, PayloadState};
use omniflow_policy::time::{MonotonicNanos, UnixMillis};

use super::delivery::{BatchOutcome, Delivery};
use super::undelivered::{EncodedItem, Undelivered};
use crate::config::Config;
use crate::control_plane::{CallToken, Response};
use crate::metrics::Metrics;
use crate::workers::membership::Membership;

/// The size in bytes at which a batch is sent without waiting for more records.
const BATCH_BYTES: usize = 256 * 1024;

/// The records that are not acknowledged yet, oldest first.
pub(crate) struct AuditBuffer {
    items: VecDeque<EncodedItem>,
    /// Bytes of all items, payloads included.
    bytes: usize,
    /// Bytes of the payloads among them.
    payload_bytes: usize,
    /// Room for records in bytes. Payloads have half as much in addition.
    capacity: usize,
    next_sequence: u64,
    /// The number of acknowledged calls, which is the sequence number of the first unacknowledged one.
    acknowledged: u64,
    refusals: RefusalAggregator,
    /// The start of the current aggregation window.
    window_since: MonotonicNanos,
    /// Calls that found no room and are in no gap yet. They get sequence numbers with the gap.
    dropped: Option<CallSpan>,
    /// The arrival of the oldest record that is in no batch.
    waiting_since: Option<MonotonicNanos>,
    delivery: Delivery,
    /// No more records will be added, so no batch waits for more.
    is_complete: bool,
}

/// A number of calls between two instants.
#[derive(Clone, Copy)]
struct CallSpan {
    calls: u64,
    from: UnixMillis,
    to: UnixMillis,
}

impl AuditBuffer {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            payload_bytes: 0,
            capacity: config.audit_buffer_bytes,
            next_sequence: 0,
            acknowledged: 0,
            refusals: RefusalAggregator::default(),
            window_since: MonotonicNanos(0),
            dropped: None,
            waiting_since: None,
            delivery: Delivery::new(),
            is_complete: false,
        }
    }

    /// The buffer of a VM that has ended, for delivery in its name.
    pub(crate) fn from_undelivered(undelivered: Undelivered, config: &Config) -> Self {
        let Undelivered { acknowledged, items } = undelivered;
        let bytes = items.iter().map(|item| item.bytes.len()).sum();
        let payload_bytes = items.iter().map(|item| item.payload).sum();
        Self { items, bytes, payload_bytes, acknowledged, is_complete: true, ..Self::new(config) }
    }

    /// Removes all unacknowledged records, at the end of the VM. They include a batch in flight: the control plane skips
    /// records that it has already.
    pub(crate) fn take_undelivered(&mut self, now: MonotonicNanos, metrics: &Metrics) -> Undelivered {
        self.record_aggregates(now, metrics);
        self.append_gap(now);
        self.delivery.abandon();
        (self.bytes, self.payload_bytes) = (0, 0);
        Undelivered { acknowledged: self.acknowledged, items: std::mem::take(&mut self.items) }
    }

    /// Whether all records were acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The number of acknowledged calls.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Aggregates a refusal without a known key if there are many. Returns `false` if it needs a record.
    pub(crate) fn aggregate(&mut self, source: Option<IpAddr>, reason: Denial, time: UnixMillis) -> bool {
        self.refusals.aggregate(source, reason, time)
    }

    /// Adds a record and its payload, and assigns the sequence number. Returns whether this completed a full batch.
    pub(crate) fn push(
        &mut self,
        mut record: AuditRecord,
        payload: Option<CallPayload>,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        record.sequence = self.next_sequence;
        let span = CallSpan { calls: 1, from: record.time, to: record.time };
        // Refused calls are unbounded. They never take the room of allowed ones.
        let is_allowed = record.key.is_some() && record.outcome == Outcome::Allowed;
        let room = if is_allowed { self.capacity } else { self.capacity / 2 };
        match payload.map(|payload| self.fit_payload(payload, metrics)) {
            Some(payload) => {
                let bytes = payload.query.len() + payload.body.len();
                self.add(&AuditItem::CallWithPayload(record, payload), bytes, room, span, now, metrics)
            }
            None => self.add(&AuditItem::Call(record), 0, room, span, now, metrics),
        }
    }

    /// The payload, or its description alone if there is no room for it. Payloads never take the room of records.
    fn fit_payload(&self, payload: CallPayload, metrics: &Metrics) -> CallPayload {
        let fits = self.payload_bytes + payload.query.len() + payload.body.len() <= self.capacity / 2;
        if fits && payload.state != PayloadState::NoRoom {
            return payload;
        }
        metrics.add_payload_dropped();
        payload.without_content()
    }

    /// Ends the aggregation window if it is over.
    fn end_window(&mut self, now: MonotonicNanos, metrics: &Metrics) {
        if now.since(self.window_since) < WINDOW {
            return;
        }
        self.window_since = now;
        if self.refusals.aggregated() == 0 {
            // Nothing to record. Sources without refusals in this window are still removed.
            return self.refusals.end_window(|_| {});
        }
        self.record_aggregates(now, metrics);
    }

    fn record_aggregates(&mut self, now: MonotonicNanos, metrics: &Metrics) {
        let mut aggregates = Vec::new();
        self.refusals.end_window(|refusals| aggregates.push(refusals));
        for mut refusals in aggregates {
            refusals.sequence = self.next_sequence;
            let span = CallSpan { calls: refusals.calls, from: refusals.first_time, to: refusals.last_time };
            self.add(&AuditItem::Aggregated(refusals), 0, self.capacity / 2, span, now, metrics);
        }
    }

    /// Adds an item for the calls of `span` if there is room. `payload` of its bytes have their own room. Returns whether
    /// this completed a full batch.
    fn add(
        &mut self,
        item: &AuditItem,
        payload: usize,
        room: usize,
        span: CallSpan,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        let bytes = item.encode();
        if self.bytes - self.payload_bytes + bytes.len() - payload > room {
            metrics.add_audit_lost(span.calls);
            self.dropped = Some(self.dropped.map_or(span, |dropped| dropped.merge(span)));
            return false;
        }
        let was_full = self.bytes >= BATCH_BYTES;
        self.enqueue(bytes, payload, span.calls, now);
        !was_full && self.bytes >= BATCH_BYTES
    }

    fn enqueue(&mut self, bytes: Vec<u8>, payload: usize, calls: u64, now: MonotonicNanos) {
        self.next_sequence = self.next_sequence.saturating_add(calls);
        self.bytes += bytes.len();
        self.payload_bytes += payload;
        self.items.push_back(EncodedItem { bytes, payload, calls });
        self.waiting_since.get_or_insert(now);
    }

    /// Appends a gap for the dropped calls. It needs no room: it takes that of an acknowledged batch.
    fn append_gap(&mut self, now: MonotonicNanos) {
        let Some(CallSpan { calls, from, to }) = self.dropped.take() else { return };
        let lost = ReportedGap {
            sequence: self.next_sequence,
            calls,
            cause: ReportedGapCause::BufferFull,
            from: Some(from),
            to,
        };
        self.enqueue(AuditItem::Gap(lost).encode(), 0, calls, now);
    }

    /// Sends a batch if one is due and none is in flight. Returns whether it did. Only in callbacks of the root context: a
    /// call that a request makes is cancelled with the request.
    pub(crate) fn flush(
        &mut self,
        config: &Config,
        source: &AuditSource,
        membership: &Membership,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        self.end_window(now, metrics);
        let waited = self.waiting_since.map_or(Duration::ZERO, |since| now.since(since));
        let due = self.is_complete || self.bytes >= BATCH_BYTES || waited >= config.audit_flush;
        if self.items.is_empty() || !self.delivery.is_ready(now) || !due {
            return false;
        }
        let mut size = 0;
        let items = self
            .items
            .iter()
            .take_while(|item| {
                let fits = size == 0 || size + item.bytes.len() <= BATCH_BYTES;
                size += item.bytes.len();
                fits
            })
            .count();
        let bytes = self.items.iter().take(items).map(|item| item.bytes.as_slice());
        let batch = AuditBatch::join(source, Some(&membership.progress_report(now, false)), bytes);
        self.delivery.send(config, &batch, items, now)
    }

    /// Handles the response to a call. Returns `false` if the call is not of this buffer.
    pub(crate) fn on_response(
        &mut self,
        call: CallToken,
        response: Option<&Response>,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        match self.delivery.on_response(call, response, now) {
            None => return false,
            Some(BatchOutcome::Failed) => {}
            Some(BatchOutcome::Acknowledged(items)) => self.remove(items, now),
            Some(BatchOutcome::Rejected(items)) => {
                metrics.add_audit_lost(self.items.iter().take(items).map(|item| item.calls).sum());
                self.remove(items, now);
            }
        }
        true
    }

    fn remove(&mut self, items: usize, now: MonotonicNanos) {
        for item in self.items.drain(..items.min(self.items.len())) {
            self.bytes = self.bytes.saturating_sub(item.bytes.len());
            self.payload_bytes = self.payload_bytes.saturating_sub(item.payload);
            self.acknowledged = self.acknowledged.saturating_add(item.calls);
        }
        self.waiting_since = (!self.items.is_empty()).then_some(now);
        self.append_gap(now);
    }
}

impl CallSpan {
    fn merge(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            from: self.from.min(other.from),
            to: self.to.max(other.to),
        }
    }
}
