//! The audit record of one call, and the batches in which a filter delivers records to the control plane.
//!
//! | module | content |
//! |---|---|
//! | `record` | one call |
//! | `argument_hash` | the hash of a call's arguments |
//! | `item` | the items of a batch: calls, aggregated refusals, gaps |
//! | `aggregate` | aggregates a flood of refusals into counts |
//! | `delivery` | how many calls each VM of a gateway has begun and delivered |
//! | `batch` | the binary format of a batch |

mod aggregate;
mod argument_hash;
mod batch;
mod delivery;
mod item;
mod record;

pub use self::aggregate::{FULL_RECORDS, MAX_PAIRS, RefusalAggregator, WINDOW};
pub use self::argument_hash::ArgumentHash;
pub use self::batch::{AuditBatch, AuditSource, FORMAT, InvalidBatch, MAGIC};
pub use self::delivery::{DeliveryReport, MAX_REPORTED_VMS, VmDelivery};
pub use self::item::{AggregatedRefusals, AuditItem, ReportedGap, ReportedGapCause};
pub use self::record::{AuditKey, AuditRecord, MAX_TEXT, clip};
pub use crate::redaction::REDACTED;
