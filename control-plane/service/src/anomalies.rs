//! Anomalies in key usage.

use std::sync::Arc;

use omniflow_domain::anomaly::{Anomaly, AnomalyFilter};
use omniflow_domain::error::Error;
use omniflow_domain::page::{Page, PageRequest};
use omniflow_store::Store;

/// Reads the detected anomalies.
pub struct Anomalies {
    store: Arc<dyn Store>,
}

// === impl Anomalies ===

impl Anomalies {
    /// The anomalies in this storage.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// A page of the anomalies that a filter selects, most recently detected first.
    pub async fn list(&self, filter: AnomalyFilter, page: PageRequest<i64>) -> Result<Page<Anomaly>, Error> {
        let anomalies = self.store.anomalies(&filter, page.after, page.limit + 1).await?;
        Ok(Page::of(anomalies, page.limit, |anomaly| anomaly.id.to_string()))
    }
}
