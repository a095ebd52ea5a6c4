//! The parameters of lists of calls in progress.

use omniflow_domain::key::KeyReference;
use serde::Deserialize;
use utoipa::IntoParams;

use super::query::Parser;

/// The filter of calls in progress.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InProgressParameters {
    /// Only calls with the key that has this identifier, or had this name at the time of the call.
    pub key: Option<String>,
}

// === impl InProgressParameters ===

impl InProgressParameters {
    /// The key.
    pub fn parse(self) -> Option<KeyReference> {
        Parser::text(self.key).map(|key| KeyReference::from(key.as_str()))
    }
}
