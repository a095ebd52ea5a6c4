//! The buffer of audit records, and its way to the control plane.
//!
//! Records are kept until the control plane has acknowledged them: one batch is under way at a time, so that they
//! arrive in order, and a batch that was not acknowledged is sent again. When the buffer is full, new records are
//! dropped; their sequence numbers are used up, and the control plane sees the gap.

use std::collections::VecDeque;
use std::time::Duration;

use omniflow_policy::audit::{AuditBatch, AuditRecord, AuditSource};
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH};
use omniflow_policy::outcome::Outcome;
use omniflow_policy::time::MonotonicNanos;
use proxy_wasm::types::LogLevel;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::control_plane::{self, Answer, CallId};
use crate::host;
use crate::metrics::Metrics;

/// A batch is sent without waiting for more when it has so many bytes.
const BATCH_BYTES: usize = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Records that are not yet acknowledged, oldest first, each encoded.
pub(crate) struct AuditBuffer {
    records: VecDeque<Vec<u8>>,
    bytes: usize,
    capacity: usize,
    next_sequence: u64,
    /// When the oldest record that is in no batch has come.
    waiting_since: Option<MonotonicNanos>,
    under_way: Option<UnderWay>,
    not_before: MonotonicNanos,
    backoff: Backoff,
    failing: bool,
}

struct UnderWay {
    id: CallId,
    records: usize,
}

impl AuditBuffer {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            records: VecDeque::new(),
            bytes: 0,
            capacity: config.audit_buffer_bytes,
            next_sequence: 0,
            waiting_since: None,
            under_way: None,
            not_before: MonotonicNanos(0),
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            failing: false,
        }
    }

    /// Adds a record, whose sequence number is set here. Tells whether a batch is full and should be sent now.
    pub(crate) fn push(&mut self, mut record: AuditRecord, now: MonotonicNanos, metrics: &Metrics) -> bool {
        record.sequence = self.next_sequence;
        self.next_sequence += 1;
        let encoded = record.encode();
        // Who is refused can be anybody and any number: it never takes the room of those that are let through.
        let let_through = record.key.is_some() && record.outcome == Outcome::Allowed;
        let room = if let_through { self.capacity } else { self.capacity / 2 };
        if self.bytes + encoded.len() > room {
            metrics.audit_lost(1);
            return false;
        }
        let was_full = self.bytes >= BATCH_BYTES;
        self.bytes += encoded.len();
        self.records.push_back(encoded);
        self.waiting_since.get_or_insert(now);
        !was_full && self.bytes >= BATCH_BYTES
    }

    /// Sends a batch if one is due and none is under way. Only in callbacks of the root context: a call made by a
    /// stream ends with the stream.
    pub(crate) fn flush(&mut self, config: &Config, source: &AuditSource, now: MonotonicNanos) {
        let waited = self.waiting_since.map_or(Duration::ZERO, |since| now.since(since));
        let due = self.bytes >= BATCH_BYTES || waited >= config.audit_flush;
        if self.records.is_empty() || self.under_way.is_some() || now < self.not_before || !due {
            return;
        }
        let mut size = 0;
        let records = self
            .records
            .iter()
            .take_while(|record| {
                let fits = size == 0 || size + record.len() <= BATCH_BYTES;
                size += record.len();
                fits
            })
            .count();
        let batch = AuditBatch::join(source, self.records.iter().take(records).map(Vec::as_slice));
        match control_plane::post(config, AUDIT_PATH, AUDIT_MEDIA_TYPE, &batch, TIMEOUT) {
            Ok(id) => self.under_way = Some(UnderWay { id, records }),
            Err(_) => self.pause(now),
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
        match answer.map(|answer| answer.status) {
            Some(204) => {
                self.forget(batch.records, now);
                self.backoff.reset();
                if std::mem::take(&mut self.failing) {
                    host::log(LogLevel::Warn, "audit records are taken again");
                }
            }
            // The control plane cannot read it and never will: sending it again would hold up all that follow.
            Some(400 | 413 | 415) => {
                host::log(
                    LogLevel::Error,
                    "the control plane refused an audit batch as unreadable; it is lost",
                );
                metrics.audit_lost(u64::try_from(batch.records).unwrap_or(0));
                self.forget(batch.records, now);
            }
            status => {
                if !std::mem::replace(&mut self.failing, true) {
                    let why = status.map_or("no answer".to_owned(), |status| format!("status {status}"));
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

    fn forget(&mut self, records: usize, now: MonotonicNanos) {
        for record in self.records.drain(..records.min(self.records.len())) {
            self.bytes = self.bytes.saturating_sub(record.len());
        }
        self.waiting_since = (!self.records.is_empty()).then_some(now);
    }

    fn pause(&mut self, now: MonotonicNanos) {
        self.not_before = now.after(self.backoff.pause());
    }
}
