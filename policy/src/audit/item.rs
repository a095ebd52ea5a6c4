//! What a batch is made of: calls, with their arguments where those are kept, refusals that were folded into a count, and the word of what was lost.
//!
//! The numbers of a stream count calls, not items: an item takes as many as it stands for. So whatever number never
//! arrives is one lost call.

use alloc::vec::Vec;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::AuditRecord;
use crate::outcome::Denial;
use crate::payload::CallPayload;
use crate::time::UnixMillis;

/// One item of a stream. The order is part of the format: append, never reorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// Nearly all items are calls: a box around each would cost more than the others' room.
#[allow(clippy::large_enum_variant)]
pub enum AuditItem {
    /// One call.
    Call(AuditRecord),
    /// Refusals of callers without a known key, counted.
    Folded(FoldedRefusals),
    /// Calls whose records never come.
    Lost(LostCalls),
    /// One call and its arguments.
    CallWithPayload(AuditRecord, CallPayload),
}

/// Refusals with one reason, of callers without a known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedRefusals {
    /// The number of the first; the others follow it.
    pub sequence: u64,
    /// The callers' address; `None` where it is unknown, or there were too many to tell them apart.
    pub source_ip: Option<IpAddr>,
    /// Why they were refused.
    pub reason: Denial,
    /// How many, at least one.
    pub calls: u64,
    /// When the first began.
    pub first_time: UnixMillis,
    /// When the last began.
    pub last_time: UnixMillis,
}

/// Calls that were made and whose records never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostCalls {
    /// The number of the first; the others follow it.
    pub sequence: u64,
    /// How many, at least one.
    pub calls: u64,
    /// Why.
    pub cause: LossCause,
    /// When the first began; `None` where only the records before can tell.
    pub from: Option<UnixMillis>,
    /// When the last began, or was there at the latest.
    pub to: UnixMillis,
}

/// Why records never come. The order is part of the format: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossCause {
    /// The VM's buffer was full.
    BufferFull,
    /// The VM has ended, and its buffer with it.
    VmLost,
}

// === impl AuditItem ===

impl AuditItem {
    /// The number of its first call.
    pub const fn sequence(&self) -> u64 {
        match self {
            Self::Call(record) | Self::CallWithPayload(record, _) => record.sequence,
            Self::Folded(folded) => folded.sequence,
            Self::Lost(lost) => lost.sequence,
        }
    }

    /// How many calls it stands for.
    pub const fn calls(&self) -> u64 {
        match self {
            Self::Call(_) | Self::CallWithPayload(..) => 1,
            Self::Folded(folded) => folded.calls,
            Self::Lost(lost) => lost.calls,
        }
    }

    /// The number that follows its last call.
    pub const fn next_sequence(&self) -> u64 {
        self.sequence().saturating_add(self.calls())
    }

    /// When its last call began.
    pub const fn time(&self) -> UnixMillis {
        match self {
            Self::Call(record) | Self::CallWithPayload(record, _) => record.time,
            Self::Folded(folded) => folded.last_time,
            Self::Lost(lost) => lost.to,
        }
    }

    /// When its first call began; `None` where only what came before can tell.
    pub const fn first_time(&self) -> Option<UnixMillis> {
        match self {
            Self::Call(record) | Self::CallWithPayload(record, _) => Some(record.time),
            Self::Folded(folded) => Some(folded.first_time),
            Self::Lost(lost) => lost.from,
        }
    }

    /// Moves no time behind `latest`, and no beginning behind its end.
    pub fn clamp_times(&mut self, latest: UnixMillis) {
        match self {
            Self::Call(record) | Self::CallWithPayload(record, _) => record.time = record.time.min(latest),
            Self::Folded(folded) => {
                folded.last_time = folded.last_time.min(latest);
                folded.first_time = folded.first_time.min(folded.last_time);
            }
            Self::Lost(lost) => {
                lost.to = lost.to.min(latest);
                lost.from = lost.from.map(|from| from.min(lost.to));
            }
        }
    }

    /// Whether it stands for a call, and no text is longer than a filter makes it.
    pub(super) fn is_in_bounds(&self) -> bool {
        match self {
            Self::Call(record) => record.is_in_bounds(),
            Self::CallWithPayload(record, payload) => record.is_in_bounds() && payload.is_in_bounds(),
            Self::Folded(_) | Self::Lost(_) => self.calls() > 0,
        }
    }

    /// The record of a call, and its arguments where they came with it.
    pub fn into_call(self) -> Option<(AuditRecord, Option<CallPayload>)> {
        match self {
            Self::Call(record) => Some((record, None)),
            Self::CallWithPayload(record, payload) => Some((record, Some(payload))),
            Self::Folded(_) | Self::Lost(_) => None,
        }
    }

    /// The encoded form, which joins with others to a batch.
    pub fn encode(&self) -> Vec<u8> {
        // More than most records take, so that the room does not grow under way.
        const USUAL: usize = 512;
        // Encoding into memory has no way to fail.
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
