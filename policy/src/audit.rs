//! The audit record of one call, and the batches in which a filter delivers records to the control plane.
//!
//! | module | content |
//! |---|---|
//! | `record` | one call |
//! | `interruption` | why a response was not complete |
//! | `argument_hash` | the hash of a call's arguments |
//! | `item` | the items of a batch: calls, aggregated calls, gaps, calls in progress |
//! | `aggregate` | aggregates a flood of calls into counts |
//! | `delivery` | how many calls each VM of a gateway has begun and delivered |
//! | `batch` | the binary format of a batch |

mod aggregate;
mod argument_hash;
mod batch;
mod delivery;
mod interruption;
mod item;
mod record;

pub use self::aggregate::{
    CallAggregator, FULL_RECORDS, MAX_ADDRESSES, MAX_FIRST_RECORDS, MAX_FURTHER_RECORDS, MAX_KEYS, MAX_SHARE,
    UnboundedCall, WINDOW,
};
pub use self::argument_hash::ArgumentHash;
pub use self::batch::{AuditBatch, AuditSource, FORMAT, InvalidBatch, MAGIC};
pub use self::delivery::{DeliveryReport, MAX_REPORTED_VMS, VmDelivery};
pub use self::interruption::Interruption;
pub use self::item::{AuditItem, CallAggregate, CallEnd, CallInProgress, ReportedGap, ReportedGapCause};
pub use self::record::{AuditKey, AuditRecord, MAX_METHOD, MAX_PATH, MAX_REQUEST_ID, TRUNCATED, clip};
