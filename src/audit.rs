//! The buffer of audit records, and its way to the control plane.
//!
//! Records are kept until the control plane has acknowledged them: one batch is under way at a time, so that they
//! arrive in order, and a batch that was not acknowledged is sent again. When the buffer is full, new records are
//! dropped and counted, and the next acknowledgement is followed by the word of how many and from when to when.
//! Refusals of callers without a known key are folded into counts when there are many of them. Arguments of calls
//! have half as much room beside the records; beyond that a record comes without them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use omniflow_policy::audit::{
    AuditBatch, AuditItem, AuditRecord, AuditSource, RefusalAggregator, ReportedGap, ReportedGapCause, WINDOW,
};
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH};
use omniflow_policy::outcome::{Denial, Outcome};
use omniflow_policy::payload::{CallPayload, PayloadState};
use omniflow_policy::time::{MonotonicNanos, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::abi::LogLevel;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::control_plane::{self, Answer, CallId};
use crate::host;
use crate::metrics::Metrics;
use crate::peers::Peers;

/// A batch is sent without waiting for more when it has so many bytes.
const BATCH_BYTES: usize = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is not yet acknowledged, oldest first.
pub(crate) struct AuditBuffer {
    items: VecDeque<Encoded>,
    /// Of all items, payloads included.
    bytes: usize,
    /// Of the payloads among them.
    payload_bytes: usize,
    /// Bytes of records; payloads have half as much beside it.
    capacity: usize,
    next_sequence: u64,
    /// The number of the first call that is not acknowledged.
    acknowledged: u64,
    refusals: RefusalAggregator,
    /// When the present window of folding began.
    window_since: MonotonicNanos,
    /// Calls that had no room, until this is told. They have no numbers before.
    lost: Option<Span>,
    /// When the oldest record that is in no batch has come.
    waiting_since: Option<MonotonicNanos>,
    under_way: Option<UnderWay>,
    not_before: MonotonicNanos,
    backoff: Backoff,
    failing: bool,
    /// Nothing will be added: there is nothing to wait for.
    complete: bool,
}

/// All that a VM had not delivered when it ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undelivered {
    acknowledged: u64,
    items: VecDeque<Encoded>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Encoded {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    /// How many of them are a payload.
    payload: usize,
    calls: u64,
}

/// So many calls between two instants.
#[derive(Clone, Copy)]
struct Span {
    calls: u64,
    from: UnixMillis,
    to: UnixMillis,
}

struct UnderWay {
    id: CallId,
    items: usize,
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
            lost: None,
            waiting_since: None,
            under_way: None,
            not_before: MonotonicNanos(0),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            failing: false,
            complete: false,
        }
    }

    /// The buffer of a VM that has ended, to be delivered in its name.
    pub(crate) fn of(undelivered: Undelivered, config: &Config) -> Self {
        let Undelivered { acknowledged, items } = undelivered;
        let bytes = items.iter().map(|item| item.bytes.len()).sum();
        let payload_bytes = items.iter().map(|item| item.payload).sum();
        Self { items, bytes, payload_bytes, acknowledged, complete: true, ..Self::new(config) }
    }

    /// Takes out all that is not acknowledged, at the end of the VM. A batch that is under way is in it: the control
    /// plane knows what it has.
    pub(crate) fn take_undelivered(&mut self, now: MonotonicNanos, metrics: &Metrics) -> Undelivered {
        self.take_folded(now, metrics);
        self.tell_lost(now);
        self.under_way = None;
        (self.bytes, self.payload_bytes) = (0, 0);
        Undelivered { acknowledged: self.acknowledged, items: std::mem::take(&mut self.items) }
    }

    /// Whether all of it was acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The number of the first call that is not acknowledged: so many were.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Counts a refusal of a caller without a known key, if there are many of them. `false` if it needs a record.
    pub(crate) fn fold(&mut self, source: Option<IpAddr>, reason: Denial, time: UnixMillis) -> bool {
        self.refusals.aggregate(source, reason, time)
    }

    /// Adds a record, whose sequence number is set here, with the call's arguments if there are any. Tells whether a
    /// batch is full and should be sent now.
    pub(crate) fn push(
        &mut self,
        mut record: AuditRecord,
        payload: Option<CallPayload>,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        record.sequence = self.next_sequence;
        let span = Span { calls: 1, from: record.time, to: record.time };
        // Who is refused can be anybody and any number: it never takes the room of those that are let through.
        let let_through = record.key.is_some() && record.outcome == Outcome::Allowed;
        let room = if let_through { self.capacity } else { self.capacity / 2 };
        match payload.map(|payload| self.fit(payload, metrics)) {
            Some(payload) => {
                let bytes = payload.query.len() + payload.body.len();
                self.take(&AuditItem::CallWithPayload(record, payload), bytes, room, span, now, metrics)
            }
            None => self.take(&AuditItem::Call(record), 0, room, span, now, metrics),
        }
    }

    /// The payload if there is room for it. It has room of its own: payloads never take that of records.
    fn fit(&self, payload: CallPayload, metrics: &Metrics) -> CallPayload {
        let fits = self.payload_bytes + payload.query.len() + payload.body.len() <= self.capacity / 2;
        if fits && payload.state != PayloadState::NoRoom {
            return payload;
        }
        metrics.payload_dropped();
        payload.without_content()
    }

    /// Ends the window of folding if it is over.
    fn end_window(&mut self, now: MonotonicNanos, metrics: &Metrics) {
        if now.since(self.window_since) < WINDOW {
            return;
        }
        self.window_since = now;
        if self.refusals.aggregated() == 0 {
            // Nothing to tell, but who was silent is to be forgotten.
            return self.refusals.end_window(|_| {});
        }
        self.take_folded(now, metrics);
    }

    fn take_folded(&mut self, now: MonotonicNanos, metrics: &Metrics) {
        let mut folded = Vec::new();
        self.refusals.end_window(|refusals| folded.push(refusals));
        for mut refusals in folded {
            refusals.sequence = self.next_sequence;
            let span = Span { calls: refusals.calls, from: refusals.first_time, to: refusals.last_time };
            self.take(&AuditItem::Aggregated(refusals), 0, self.capacity / 2, span, now, metrics);
        }
    }

    /// Takes an item that stands for these calls, `payload` bytes of which have their own room, where there is room for
    /// the rest. Tells whether it made a batch full.
    fn take(
        &mut self,
        item: &AuditItem,
        payload: usize,
        room: usize,
        span: Span,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        let bytes = item.encode();
        if self.bytes - self.payload_bytes + bytes.len() - payload > room {
            metrics.audit_lost(span.calls);
            self.lost = Some(self.lost.map_or(span, |lost| lost.and(span)));
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
        self.items.push_back(Encoded { bytes, payload, calls });
        self.waiting_since.get_or_insert(now);
    }

    /// Puts the word of what was lost behind what is there. This needs no room: it follows a batch that is gone.
    fn tell_lost(&mut self, now: MonotonicNanos) {
        let Some(Span { calls, from, to }) = self.lost.take() else { return };
        let lost = ReportedGap {
            sequence: self.next_sequence,
            calls,
            cause: ReportedGapCause::BufferFull,
            from: Some(from),
            to,
        };
        self.enqueue(AuditItem::Gap(lost).encode(), 0, calls, now);
    }

    /// Sends a batch if one is due and none is under way; tells whether it did. Only in callbacks of the root context:
    /// a call made by a stream ends with the stream.
    pub(crate) fn flush(
        &mut self,
        config: &Config,
        source: &AuditSource,
        peers: &Peers,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        self.end_window(now, metrics);
        let waited = self.waiting_since.map_or(Duration::ZERO, |since| now.since(since));
        let due = self.complete || self.bytes >= BATCH_BYTES || waited >= config.audit_flush;
        if self.items.is_empty() || self.under_way.is_some() || now < self.not_before || !due {
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
        let batch = AuditBatch::join(source, Some(&peers.word(now, false)), bytes);
        match control_plane::post(config, AUDIT_PATH, AUDIT_MEDIA_TYPE, &batch, TIMEOUT) {
            Ok(id) => {
                self.under_way = Some(UnderWay { id, items });
                true
            }
            Err(_) => {
                self.pause(now);
                false
            }
        }
    }

    /// A call was answered. `false` if it is not the buffer's.
    pub(crate) fn answered(
        &mut self,
        id: CallId,
        answer: Option<&Answer>,
        now: MonotonicNanos,
        metrics: &Metrics,
    ) -> bool {
        let Some(batch) = self.under_way.take_if(|batch| batch.id == id) else {
            return false;
        };
        match answer {
            Some(answer) if answer.status == 204 => {
                self.forget(batch.items, now);
                self.backoff.reset();
                if std::mem::take(&mut self.failing) {
                    host::log(LogLevel::Warn, "audit records are taken again");
                }
            }
            // The control plane cannot read it and never will: sending it again would hold up all that follow.
            Some(answer) if answer.refuses_batch() => {
                host::log(
                    LogLevel::Error,
                    "the control plane refused an audit batch as unreadable; it is lost",
                );
                metrics.audit_lost(self.items.iter().take(batch.items).map(|item| item.calls).sum());
                self.forget(batch.items, now);
            }
            answer => {
                if !std::mem::replace(&mut self.failing, true) {
                    let why =
                        answer.map_or("no answer".to_owned(), |answer| format!("status {}", answer.status));
                    host::log(
                        LogLevel::Error,
                        &format!("audit records are kept, the control plane takes none: {why}"),
                    );
                }
                self.pause(now);
            }
        }
        true
    }

    fn forget(&mut self, items: usize, now: MonotonicNanos) {
        for item in self.items.drain(..items.min(self.items.len())) {
            self.bytes = self.bytes.saturating_sub(item.bytes.len());
            self.payload_bytes = self.payload_bytes.saturating_sub(item.payload);
            self.acknowledged = self.acknowledged.saturating_add(item.calls);
        }
        self.waiting_since = (!self.items.is_empty()).then_some(now);
        self.tell_lost(now);
    }

    fn pause(&mut self, now: MonotonicNanos) {
        self.not_before = now.after(self.backoff.pause());
    }
}

impl Undelivered {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many calls it tells of.
    pub(crate) fn calls(&self) -> u64 {
        self.items.iter().fold(0, |sum, item| sum.saturating_add(item.calls))
    }
}

impl Span {
    fn and(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            from: self.from.min(other.from),
            to: self.to.max(other.to),
        }
    }
}
