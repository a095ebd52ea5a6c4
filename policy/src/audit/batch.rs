//! The binary format of an audit batch.
//!
//! A batch is 4 bytes of magic, 2 bytes of format (little-endian), then postcard: the batch's header, the
//! gateway's [`DeliveryReport`] if there is one, then items up to the end. There may be no items. The filter
//! encodes each item once, when the call ends, and concatenates encoded items to a batch.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::delivery::DeliveryReport;
use super::item::AuditItem;
use super::record::AuditRecord;
use crate::gateway::Incarnation;

/// The first bytes of a batch.
pub const MAGIC: [u8; 4] = *b"OMFA";
/// The format that this crate writes and reads.
pub const FORMAT: u16 = 1;

/// The header of a batch: the origin of its items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSource {
    /// The gateway's name.
    pub gateway: String,
    /// The run of the gateway's process.
    pub incarnation: Incarnation,
    /// The run of the VM.
    pub vm: Incarnation,
}

/// Items of one VM, in the order of their sequence numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditBatch {
    /// The origin of the items.
    pub source: AuditSource,
    /// The delivery state of the whole gateway.
    pub delivery: Option<DeliveryReport>,
    /// The items. Empty if the batch only carries a delivery report.
    pub items: Vec<AuditItem>,
}

/// Why bytes are not a valid batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// The magic is missing.
    #[error("The body is not a valid audit batch")]
    Foreign,
    /// The format number is not [`FORMAT`].
    #[error("audit batch format {0} is not supported; only format {FORMAT} is")]
    Format(u16),
    /// The batch is truncated or damaged.
    #[error("the audit batch is corrupted")]
    Damaged,
}

// === impl AuditBatch ===

impl AuditBatch {
    /// A batch of calls without arguments.
    pub fn from_records(source: AuditSource, records: Vec<AuditRecord>) -> Self {
        Self { source, delivery: None, items: records.into_iter().map(AuditItem::Call).collect() }
    }

    /// Concatenates encoded items to a batch.
    pub fn join<'a>(
        source: &AuditSource,
        delivery: Option<&DeliveryReport>,
        items: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend(postcard::to_allocvec(&(source, delivery)).unwrap_or_default());
        for item in items {
            bytes.extend_from_slice(item);
        }
        bytes
    }

    /// Encodes the batch.
    pub fn encode(&self) -> Vec<u8> {
        let items: Vec<Vec<u8>> = self.items.iter().map(AuditItem::encode).collect();
        Self::join(&self.source, self.delivery.as_ref(), items.iter().map(Vec::as_slice))
    }

    /// Decodes a whole batch.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidBatch> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(InvalidBatch::Foreign)?;
        let (format, rest) = rest.split_first_chunk().ok_or(InvalidBatch::Damaged)?;
        match u16::from_le_bytes(*format) {
            FORMAT => {}
            other => return Err(InvalidBatch::Format(other)),
        }
        let (source, rest) = split(rest)?;
        let (delivery, mut rest): (Option<DeliveryReport>, _) = split(rest)?;
        if delivery.as_ref().is_some_and(|delivery| !delivery.is_in_bounds()) {
            return Err(InvalidBatch::Damaged);
        }
        let mut items = Vec::new();
        while !rest.is_empty() {
            let (item, after): (AuditItem, _) = split(rest)?;
            if !item.is_in_bounds() {
                return Err(InvalidBatch::Damaged);
            }
            items.push(item);
            rest = after;
        }
        Ok(Self { source, delivery, items })
    }
}

/// Decodes one value, and returns it with the bytes after it.
fn split<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), InvalidBatch> {
    postcard::take_from_bytes(bytes).map_err(|_| InvalidBatch::Damaged)
}

#[cfg(test)]
mod tests;
