//! Metrics of the gateway protocol: how fast changes reach gateways, and the batches that they deliver.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the buckets of the poll delay, in seconds. The response to a waiting poll takes milliseconds.
const POLL_DELAYS: [f64; 10] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Upper bounds of the buckets of the enforcement delay, in seconds: up to a gateway that was disconnected for ten minutes.
const ENFORCEMENT_DELAYS: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 600.0];
/// Upper bounds of the buckets of records per batch.
const BATCH_RECORDS: [f64; 8] = [0.0, 1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0];
/// Upper bounds of the buckets of bytes per batch, up to the largest batch that is accepted.
const BATCH_BYTES: [f64; 7] = [256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// Measurements of the gateway protocol. Clones record into the same histograms.
#[derive(Clone, Debug)]
pub struct GatewayMetrics {
    poll_delay: Histogram,
    enforcement_delay: Histogram,
    batch_records: Histogram,
    batch_bytes: Histogram,
}

// === impl GatewayMetrics ===

impl Default for GatewayMetrics {
    fn default() -> Self {
        Self {
            poll_delay: Histogram::new(POLL_DELAYS),
            enforcement_delay: Histogram::new(ENFORCEMENT_DELAYS),
            batch_records: Histogram::new(BATCH_RECORDS),
            batch_bytes: Histogram::new(BATCH_BYTES),
        }
    }
}

impl GatewayMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "omf_gateway_poll_delay",
            "Time from the publication of a snapshot version to the response to a waiting poll",
            Unit::Seconds,
            self.poll_delay.clone(),
        );
        registry.register_with_unit(
            "omf_enforcement_delay",
            "Time from the publication of a snapshot version until a gateway confirms that all its VMs enforce it",
            Unit::Seconds,
            self.enforcement_delay.clone(),
        );
        registry.register_with_unit(
            "omf_audit_batch",
            "Records per batch delivered by a gateway; 0 for a batch that contains only a progress report",
            Unit::Other("records".to_owned()),
            self.batch_records.clone(),
        );
        registry.register_with_unit(
            "omf_audit_batch",
            "Encoded size of batches delivered by gateways",
            Unit::Bytes,
            self.batch_bytes.clone(),
        );
    }

    /// Records the delay of the response to a waiting poll.
    pub(crate) fn observe_poll_delay(&self, delay: Duration) {
        self.poll_delay.observe(delay.as_secs_f64());
    }

    /// Records the delay of a gateway's confirmation.
    pub(crate) fn observe_enforcement_delay(&self, delay: Duration) {
        self.enforcement_delay.observe(delay.as_secs_f64());
    }

    /// Records the size of a batch that was stored.
    pub(crate) fn observe_batch(&self, records: usize, bytes: usize) {
        self.batch_records.observe(records as f64);
        self.batch_bytes.observe(bytes as f64);
    }
}
