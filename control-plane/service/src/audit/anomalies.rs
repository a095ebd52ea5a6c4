//! Anomalies in key usage.

use omniflow_domain::anomaly::Anomaly;
use omniflow_domain::error::Error;
use omniflow_domain::page::Page;

use super::RequestLog;
use crate::query::{self, PageRequest};
use omniflow_store::{AnomalyFilter, KeyReference};

/// Which anomalies, as text. An absent or empty field selects all.
#[derive(Clone, Debug, Default)]
pub struct AnomalyQuery {
    /// The key, by identifier or by its name at the time.
    pub key: Option<String>,
    /// The kind.
    pub kind: Option<String>,
    /// Anomalies that lasted until this time or longer.
    pub from: Option<String>,
    /// Anomalies that began before this time.
    pub to: Option<String>,
}

// === impl RequestLog ===

impl RequestLog {
    /// A page of the anomalies that a query selects, the one found last first.
    pub async fn anomalies(&self, query: AnomalyQuery, page: PageRequest) -> Result<Page<Anomaly>, Error> {
        let (limit, before) = page.read(|text| text.parse().ok())?;
        let filter = AnomalyFilter {
            key: query::present(query.key).map(|key| KeyReference::from(key.as_str())),
            kind: query::parsed("kind", query.kind)?,
            from: query::time("from", query.from)?,
            to: query::time("to", query.to)?,
        };
        let anomalies = self.store.anomalies(&filter, before, limit + 1).await?;
        Ok(Page::of(anomalies, limit, |anomaly| anomaly.id.to_string()))
    }
}
