//! The parameters of lists of anomalies.

use omniflow_domain::anomaly::AnomalyFilter;
use omniflow_domain::key::KeyReference;
use serde::Deserialize;
use utoipa::IntoParams;

use super::query::{InvalidQuery, Parser};
use crate::schema;

/// The filter of anomalies.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AnomalyParameters {
    /// Only anomalies for the key with this identifier, or with this name at the time.
    pub key: Option<String>,
    /// Only anomalies of this kind.
    #[param(value_type = Option<schema::AnomalyKind>)]
    pub kind: Option<String>,
    /// Only anomalies that were observed at or after this time.
    #[param(value_type = Option<schema::Instant>)]
    pub from: Option<String>,
    /// Only anomalies that began before this time.
    #[param(value_type = Option<schema::Instant>)]
    pub to: Option<String>,
}

// === impl AnomalyParameters ===

impl AnomalyParameters {
    /// The filter.
    pub fn parse(self) -> Result<AnomalyFilter, InvalidQuery> {
        let mut parser = Parser::default();
        let filter = AnomalyFilter {
            key: Parser::text(self.key).map(|key| KeyReference::from(key.as_str())),
            kind: parser.parsed("kind", self.kind),
            from: parser.time("from", self.from),
            to: parser.time("to", self.to),
        };
        parser.finish(filter)
    }
}
