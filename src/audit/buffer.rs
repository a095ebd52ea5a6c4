//! The buffer of one VM's audit records.
//!
//! Records stay in the buffer until the control plane has acknowledged them. When the buffer is full, new records are
//! dropped and counted; a gap with their number and time span follows the next acknowledged batch. Refusals and calls
//! without a key, which no limit bounds, are aggregated when there are many. Payloads have separate room, half as much
//! as the records. Each key may use three quarters of the room that other keys do not use. Above that, a record is
//! sent without its payload.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use omniflow_policy::audit::{
    AuditBatch, AuditItem, AuditRecord, AuditSource, CallAggregator, CallEnd, CallInProgress, ReportedGap,
    ReportedGapCause, UnboundedCall, WINDOW,
};
use omniflow_policy::payload::{CallPayload, PayloadState};
use omniflow_policy::time::{MonotonicNanos, UnixMillis};
use uuid::Uuid;

use super::delivery::{BatchOutcome, Delivery};
use super::undelivered::{EncodedItem, PayloadShare, Undelivered};
use crate::config::Config;
use crate::control_plane::{CallToken, Response};
use crate::metrics::Metrics;
use crate::vm::FinishedCall;
use crate::workers::membership::Membership;

/// The size in bytes at which a batch is sent without waiting for more records.
const BATCH_BYTES: usize = 256 * 1024;

/// The records that are not acknowledged yet, oldest first.
pub(crate) struct AuditBuffer {
    items: VecDeque<EncodedItem>,
    /// Bytes of all items, payloads included.
    bytes: usize,
    /// Bytes of the payloads only.
    payload_bytes: usize,
    /// Bytes of the payloads, by key.
    payloads_by_key: BTreeMap<Uuid, usize>,
    /// Room for records in bytes. Payloads have half as much in addition.
    capacity: usize,
    next_sequence: u64,
    /// The number of calls that were reported as in progress.
    reported: u64,
    /// The number of acknowledged calls, which is the sequence number of the first unacknowledged one.
    acknowledged: u64,
    aggregator: CallAggregator,
    /// The start of the current aggregation window.
    window_since: MonotonicNanos,
    /// Dropped calls that no gap covers yet. They get sequence numbers with the gap.
    dropped: Option<CallSpan>,
    /// When the oldest record that is not in a batch arrived.
    waiting_since: Option<MonotonicNanos>,
    delivery: Delivery,
    /// No more records will be added, so batches are sent without waiting for more.
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
            payloads_by_key: BTreeMap::new(),
            capacity: config.audit_buffer_bytes,
            next_sequence: 0,
            reported: 0,
            acknowledged: 0,
            aggregator: CallAggregator::default(),
            window_since: MonotonicNanos(0),
            dropped: None,
            waiting_since: None,
            delivery: Delivery::new(),
            is_complete: false,
        }
    }

    /// The buffer of a VM that has ended, for delivery on its behalf.
    pub(crate) fn from_undelivered(undelivered: Undelivered, config: &Config) -> Self {
        let Undelivered { acknowledged, items } = undelivered;
        let bytes = items.iter().map(|item| item.bytes.len()).sum();
        let payload_bytes = items.iter().map(|item| item.payload.bytes).sum();
        // No more payloads are added.
        Self { items, bytes, payload_bytes, acknowledged, is_complete: true, ..Self::new(config) }
    }

    /// Removes all unacknowledged records, at the end of the VM. They include a batch in flight: the control plane
    /// skips records that it already has.
    pub(crate) fn take_undelivered(&mut self, now: MonotonicNanos, metrics: &Metrics) -> Undelivered {
        self.record_aggregates(now, metrics);
        self.append_gap(now);
        self.delivery.abandon();
        (self.bytes, self.payload_bytes) = (0, 0);
        self.payloads_by_key.clear();
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

    /// Aggregates a call that no limit bounds, if there are many such calls. Returns `false` if the call needs its own
    /// record.
    pub(crate) fn aggregate(&mut self, call: UnboundedCall<'_>) -> bool {
        self.aggregator.aggregate(call)
    }

    /// Adds a record and its payload, and assigns the sequence number. Returns whether this completed a full batch.
    pub(crate) fn push(&mut self, call: FinishedCall, now: MonotonicNanos, metrics: &Metrics) -> bool {
        let FinishedCall { mut record, payload, is_metered, reported } = call;
        record.sequence = self.next_sequence;
        let (sequence, time) = (record.sequence.saturating_add(1), record.time);
        let end = reported.map(|number| AuditItem::Ended(CallEnd { number, sequence, time }).encode());
        let span = CallSpan { calls: 1, from: record.time, to: record.time };
        // Other calls never take the room of metered ones.
        let room = if is_metered { self.capacity } else { self.capacity / 2 };
        let key = record.key.as_ref().map(|key| key.id);
        match payload.map(|payload| self.fit_payload(key, payload, metrics)) {
            Some(payload) => {
                let share = PayloadShare { bytes: payload.query.len() + payload.body.len(), key };
                self.add(&AuditItem::CallWithPayload(record, payload), end, share, room, span, now, metrics)
            }
            None => {
                let none = PayloadShare::default();
                self.add(&AuditItem::Call(record), end, none, room, span, now, metrics)
            }
        }
    }

    /// Reports a call as in progress. Returns its number among those; `None` if there is no room, which loses nothing: the
    /// call's own record follows when it ends.
    pub(crate) fn push_in_progress(&mut self, mut record: AuditRecord, now: MonotonicNanos) -> Option<u64> {
        record.sequence = self.next_sequence;
        let number = self.reported;
        let bytes = AuditItem::InProgress(CallInProgress { number, record }).encode();
        if self.bytes - self.payload_bytes + bytes.len() > self.capacity / 2 {
            return None;
        }
        self.reported = number.saturating_add(1);
        self.enqueue(bytes, PayloadShare::default(), 0, now);
        Some(number)
    }

    /// The payload, or only its description if there is no room. Payloads never take the room of records.
    fn fit_payload(&self, key: Option<Uuid>, payload: CallPayload, metrics: &Metrics) -> CallPayload {
        let bytes = payload.query.len() + payload.body.len();
        let of_key = key.and_then(|key| self.payloads_by_key.get(&key)).copied().unwrap_or(0);
        let left = (self.capacity / 2).checked_sub(self.payload_bytes + bytes);
        // The room left afterwards is at least a third of what the key uses.
        let fits = left.is_some_and(|left| of_key + bytes <= left.saturating_mul(3));
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
        if self.aggregator.aggregated() == 0 {
            // Nothing to record. Sources without refusals in this window are still removed.
            return self.aggregator.end_window(|_| {});
        }
        self.record_aggregates(now, metrics);
    }

    fn record_aggregates(&mut self, now: MonotonicNanos, metrics: &Metrics) {
        let mut aggregates = Vec::new();
        self.aggregator.end_window(|aggregate| aggregates.push(aggregate));
        for mut aggregate in aggregates {
            aggregate.sequence = self.next_sequence;
            let span =
                CallSpan { calls: aggregate.calls, from: aggregate.first_time, to: aggregate.last_time };
            let room = self.capacity / 2;
            let none = PayloadShare::default();
            self.add(&AuditItem::Aggregated(aggregate), None, none, room, span, now, metrics);
        }
    }

    /// Adds an item for the calls of `span` if there is room. Its payload counts toward separate room. `end` is the
    /// encoded end of a call that was reported as in progress: it stays in one piece with the call's record, and is sent even if
    /// there is no room for the record. Returns whether this completed a full batch.
    #[expect(clippy::too_many_arguments, reason = "decides on space for every kind of item in one place")]
    fn add(
        &mut self,
        item: &AuditItem,
        end: Option<Vec<u8>>,
        payload: PayloadShare,
        room: usize,
        span: CallSpan,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        let mut bytes = item.encode();
        if self.bytes - self.payload_bytes + bytes.len() - payload.bytes > room {
            metrics.add_audit_lost(span.calls);
            self.dropped = Some(self.dropped.map_or(span, |dropped| dropped.merge(span)));
            if let Some(end) = end {
                self.enqueue(end, PayloadShare::default(), 0, now);
            }
            return false;
        }
        bytes.extend(end.into_iter().flatten());
        let was_full = self.bytes >= BATCH_BYTES;
        self.enqueue(bytes, payload, span.calls, now);
        !was_full && self.bytes >= BATCH_BYTES
    }

    fn enqueue(&mut self, bytes: Vec<u8>, payload: PayloadShare, calls: u64, now: MonotonicNanos) {
        self.next_sequence = self.next_sequence.saturating_add(calls);
        self.bytes += bytes.len();
        self.payload_bytes += payload.bytes;
        if let Some(key) = payload.key {
            *self.payloads_by_key.entry(key).or_default() += payload.bytes;
        }
        self.items.push_back(EncodedItem { bytes, payload, calls });
        self.waiting_since.get_or_insert(now);
    }

    /// Appends a gap for the dropped calls. It needs no extra room, because it takes that of an acknowledged batch.
    fn append_gap(&mut self, now: MonotonicNanos) {
        let Some(CallSpan { calls, from, to }) = self.dropped.take() else { return };
        let lost = ReportedGap {
            sequence: self.next_sequence,
            calls,
            cause: ReportedGapCause::BufferFull,
            from: Some(from),
            to,
        };
        self.enqueue(AuditItem::Gap(lost).encode(), PayloadShare::default(), calls, now);
    }

    /// Sends a batch if one is due and none is in flight. Returns whether it did. Use it only in callbacks of the root
    /// context: a call made by a request is cancelled with the request.
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

    /// Handles the response to a call. Returns `false` if the call does not belong to this buffer.
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
        for _ in 0..items {
            let Some(item) = self.items.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(item.bytes.len());
            self.remove_share(item.payload);
            self.acknowledged = self.acknowledged.saturating_add(item.calls);
        }
        self.waiting_since = (!self.items.is_empty()).then_some(now);
        self.append_gap(now);
    }

    fn remove_share(&mut self, payload: PayloadShare) {
        self.payload_bytes = self.payload_bytes.saturating_sub(payload.bytes);
        if let Some(key) = payload.key
            && let Entry::Occupied(mut of_key) = self.payloads_by_key.entry(key)
        {
            *of_key.get_mut() = of_key.get().saturating_sub(payload.bytes);
            if *of_key.get() == 0 {
                of_key.remove();
            }
        }
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
