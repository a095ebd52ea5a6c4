//! Durations of the operations of a store. Each backend records its own, at the few places that all its operations go
//! through.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

/// Upper bounds of the buckets, in seconds: from a cached read to a stalled disk.
const BUCKETS: [f64; 11] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A read outside of a transaction.
    Read,
    /// A [`Transaction`](crate::Transaction).
    AdminTransaction,
    /// A [`LogTransaction`](crate::LogTransaction) that stores a batch of a gateway.
    Ingest,
    /// Any other [`LogTransaction`](crate::LogTransaction).
    LogTransaction,
    /// A write by the backend itself, such as purging old records.
    Maintenance,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: Operation,
}

/// Durations of operations, by kind. Clones record into the same histograms.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

/// An operation that is being measured.
#[derive(Debug)]
pub struct OperationTimer {
    /// The kind under which it is recorded.
    pub operation: Operation,
    metrics: StoreMetrics,
    began: Instant,
}

// === impl Operation ===

impl Operation {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Read, Self::AdminTransaction, Self::Ingest, Self::LogTransaction, Self::Maintenance];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::AdminTransaction => "admin_transaction",
            Self::Ingest => "ingest",
            Self::LogTransaction => "log_transaction",
            Self::Maintenance => "maintenance",
        }
    }
}

impl EncodeLabelValue for Operation {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

// === impl StoreMetrics ===

impl StoreMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "omf_store_operation_duration",
            "Duration of database operations until the rows are read or the change is on disk, including the wait for a connection",
            Unit::Seconds,
            self.durations.clone(),
        );
    }

    /// Starts measuring an operation.
    pub fn start(&self, operation: Operation) -> OperationTimer {
        OperationTimer { operation, metrics: self.clone(), began: Instant::now() }
    }

    /// The number of operations of a kind that were recorded.
    #[cfg(feature = "contract")]
    pub fn count(&self, operation: Operation) -> u64 {
        self.durations.get_or_create(&Labels { operation }).count()
    }
}

impl Default for StoreMetrics {
    /// Every kind is present from the start, so that the rate of the first operation is not lost.
    fn default() -> Self {
        let durations: Family<_, _, fn() -> _> = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        for operation in Operation::ALL {
            drop(durations.get_or_create(&Labels { operation }));
        }
        Self { durations }
    }
}

// === impl OperationTimer ===

impl OperationTimer {
    /// Records the time since the start.
    pub fn observe(&self) {
        let labels = Labels { operation: self.operation };
        self.metrics.durations.get_or_create(&labels).observe(self.began.elapsed().as_secs_f64());
    }
}
