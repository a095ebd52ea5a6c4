//! The metrics of the process: one registry, and the parts of it into which components record.

mod http;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use omniflow_service::metrics::GatewayMetrics;
use omniflow_store::StoreMetrics;
use prometheus_client::registry::Registry;

pub(crate) use self::http::{HttpMetrics, measure};

/// The registry, with the histograms that components record into. Values that exist elsewhere, such as the number of
/// keys, are read at each scrape instead (`omniflow_api`, `metrics`).
#[derive(Debug)]
pub(crate) struct Metrics {
    /// All histograms.
    pub(crate) registry: Arc<Registry>,
    /// Requests to the API, the gateway protocol and the console.
    pub(crate) http: HttpMetrics,
    /// The gateway protocol.
    pub(crate) gateways: GatewayMetrics,
}

// === impl Metrics ===

impl Metrics {
    /// Registers the metrics of all components. The store creates its own.
    pub(crate) fn new(store: &StoreMetrics) -> Self {
        let (http, gateways) = (HttpMetrics::default(), GatewayMetrics::default());
        let mut registry = Registry::default();
        http.register(&mut registry);
        store.register(&mut registry);
        gateways.register(&mut registry);
        Self { registry: Arc::new(registry), http, gateways }
    }
}
