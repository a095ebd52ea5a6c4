//! Unacknowledged records, in the form in which one VM hands them over to another.

use std::collections::VecDeque;

use omniflow_policy::audit::AuditSource;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The records of a VM that has ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handover {
    pub(crate) source: AuditSource,
    pub(crate) records: Undelivered,
}

/// The records that a VM had not delivered when it ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undelivered {
    /// The number of acknowledged calls.
    pub(super) acknowledged: u64,
    /// The records, oldest first.
    pub(super) items: VecDeque<EncodedItem>,
}

/// An item of a batch in its encoded form.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EncodedItem {
    #[serde(with = "serde_bytes")]
    pub(super) bytes: Vec<u8>,
    /// The payload among them.
    pub(super) payload: PayloadShare,
    /// The number of calls that the item represents.
    pub(super) calls: u64,
}

/// The bytes of a payload, and the key that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PayloadShare {
    pub(super) bytes: usize,
    pub(super) key: Option<Uuid>,
}

// === impl Undelivered ===

impl Undelivered {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The number of calls that these records represent.
    pub(crate) fn calls(&self) -> u64 {
        self.items.iter().fold(0, |sum, item| sum.saturating_add(item.calls))
    }
}
