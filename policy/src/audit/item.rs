//! The items of a batch: calls, with their arguments if those are recorded, aggregated calls, gaps, and calls that
//! are in progress.
//!
//! The sequence numbers of a VM count calls, not items: an item uses as many numbers as it has calls. So a
//! number that never arrives is exactly one missing call. A call that is in progress uses no number until it ends.

use alloc::vec::Vec;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::record::{AuditKey, AuditRecord};
use crate::denial::Outcome;
use crate::payload::CallPayload;
use crate::time::UnixMillis;

/// One item of a batch. The order of the variants is part of the format: append, never reorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// Nearly all items are calls: boxing each would cost more than the unused space in the others.
#[allow(clippy::large_enum_variant)]
pub enum AuditItem {
    /// One call.
    Call(AuditRecord),
    /// Aggregated calls.
    Aggregated(CallAggregate),
    /// Calls whose records will never arrive.
    Gap(ReportedGap),
    /// One call and its arguments.
    CallWithPayload(AuditRecord, CallPayload),
    /// A call that has not ended yet. Its own record follows when it ends.
    InProgress(CallInProgress),
    /// The end of a call that was reported as in progress. It follows the call's record, or the record was lost.
    Ended(CallEnd),
}

/// A call that has not ended yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallInProgress {
    /// Number of the call among those that this VM has reported as in progress.
    pub number: u64,
    /// The call so far. Its sequence number is the one that the next call to end would get.
    pub record: AuditRecord,
}

/// The end of a call that was reported as in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEnd {
    /// Number of the call among those that this VM has reported as in progress.
    pub number: u64,
    /// Sequence number of the next call to end.
    pub sequence: u64,
    /// Start of the call.
    pub time: UnixMillis,
}

/// Calls of one key or one address with the same outcome and status, too many to record individually.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallAggregate {
    /// Sequence number of the first call; the others follow it.
    pub sequence: u64,
    /// The key, if the clients used one that exists. `None` also if there were too many keys to count
    /// separately.
    pub key: Option<AuditKey>,
    /// The clients' address; `None` if it is unknown, if the calls came from several addresses, or if there
    /// were too many addresses to count separately.
    pub source_ip: Option<IpAddr>,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// The status that the clients received; 0 if they received none.
    pub status: u16,
    /// Number of calls, at least 1.
    pub calls: u64,
    /// Start of the first call.
    pub first_time: UnixMillis,
    /// Start of the last call.
    pub last_time: UnixMillis,
}

/// A gap that the gateway itself reports: calls that were made and whose records will never arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedGap {
    /// Sequence number of the first call; the others follow it.
    pub sequence: u64,
    /// Number of calls, at least 1.
    pub calls: u64,
    /// Cause of the gap.
    pub cause: ReportedGapCause,
    /// Start of the first call; `None` if only the records before it can narrow it down.
    pub from: Option<UnixMillis>,
    /// Start of the last call, or the latest time at which it can have started.
    pub to: UnixMillis,
}

/// Why records will never arrive. The order is part of the format: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportedGapCause {
    /// The VM's buffer was full.
    BufferFull,
    /// The VM ended before it had delivered its buffer.
    VmLost,
}

// === impl AuditItem ===

impl AuditItem {
    /// Sequence number of the first call.
    pub const fn sequence(&self) -> u64 {
        match self {
            Self::Call(record) | Self::CallWithPayload(record, _) => record.sequence,
            Self::Aggregated(aggregate) => aggregate.sequence,
            Self::Gap(gap) => gap.sequence,
            Self::InProgress(call) => call.record.sequence,
            Self::Ended(end) => end.sequence,
        }
    }

    /// Number of calls that have ended.
    pub const fn calls(&self) -> u64 {
        match self {
            Self::Call(_) | Self::CallWithPayload(..) => 1,
            Self::Aggregated(aggregate) => aggregate.calls,
            Self::Gap(gap) => gap.calls,
            Self::InProgress(_) | Self::Ended(_) => 0,
        }
    }

    /// Sequence number after the last call.
    pub const fn next_sequence(&self) -> u64 {
        self.sequence().saturating_add(self.calls())
    }

    /// Start of the last call.
    pub const fn time(&self) -> UnixMillis {
        match self {
            Self::Call(record) | Self::CallWithPayload(record, _) => record.time,
            Self::Aggregated(aggregate) => aggregate.last_time,
            Self::Gap(gap) => gap.to,
            Self::InProgress(call) => call.record.time,
            Self::Ended(end) => end.time,
        }
    }

    /// Start of the first call; `None` if only the records before it can narrow it down.
    pub const fn first_time(&self) -> Option<UnixMillis> {
        match self {
            Self::Call(record) | Self::CallWithPayload(record, _) => Some(record.time),
            Self::Aggregated(aggregate) => Some(aggregate.first_time),
            Self::Gap(gap) => gap.from,
            Self::InProgress(call) => Some(call.record.time),
            Self::Ended(end) => Some(end.time),
        }
    }

    /// Clamps every time to `latest`, and every start to its end.
    pub fn clamp_times(&mut self, latest: UnixMillis) {
        match self {
            Self::Call(record) | Self::CallWithPayload(record, _) => record.time = record.time.min(latest),
            Self::Aggregated(aggregate) => {
                aggregate.last_time = aggregate.last_time.min(latest);
                aggregate.first_time = aggregate.first_time.min(aggregate.last_time);
            }
            Self::Gap(gap) => {
                gap.to = gap.to.min(latest);
                gap.from = gap.from.map(|from| from.min(gap.to));
            }
            Self::InProgress(call) => call.record.time = call.record.time.min(latest),
            Self::Ended(end) => end.time = end.time.min(latest),
        }
    }

    /// Whether a count is at least one call, and every text is within the length that a filter sends.
    pub(super) fn is_in_bounds(&self) -> bool {
        match self {
            Self::Call(record) => record.is_in_bounds(),
            Self::CallWithPayload(record, payload) => record.is_in_bounds() && payload.is_in_bounds(),
            Self::Aggregated(aggregate) => {
                aggregate.calls > 0 && aggregate.key.as_ref().is_none_or(AuditKey::is_in_bounds)
            }
            Self::Gap(gap) => gap.calls > 0,
            Self::InProgress(call) => call.record.is_in_bounds(),
            Self::Ended(_) => true,
        }
    }

    /// Encodes the item. Encoded items are concatenated to a batch.
    pub fn encode(&self) -> Vec<u8> {
        // More than most records need, so that the buffer does not grow while it is written.
        const USUAL: usize = 512;
        // Encoding into memory cannot fail.
        let mut bytes = postcard::to_extend(self, Vec::with_capacity(USUAL)).unwrap_or_default();
        bytes.shrink_to_fit();
        bytes
    }
}

impl From<AuditRecord> for AuditItem {
    fn from(record: AuditRecord) -> Self {
        Self::Call(record)
    }
}
