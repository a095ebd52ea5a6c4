//! The audit log: calls, gaps, statistics, exports, and a stream of new calls.

pub(super) mod export;
pub(super) mod gaps;
pub(super) mod list;
pub(super) mod payload;
pub(super) mod show;
pub(super) mod stats;
pub(super) mod stream;

use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::access::{AUDIT, OWNER, READ};
use super::endpoint::Endpoints;
use omniflow_api_types::schema;
use omniflow_service::audit::filter::AuditQuery;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .add_query(READ, routes!(list::list))
        .add_query(READ, routes!(gaps::gaps))
        .add_query(READ, routes!(stats::stats))
        .add(READ, routes!(export::export))
        .add(READ, routes!(stream::stream))
        .add(READ, routes!(show::show))
        .add(AUDIT, routes!(payload::show))
        .add(OWNER, routes!(payload::rotate_key))
}

/// The filter of calls.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FilterQuery {
    /// Only calls with the key that has this identifier, or had this name at the time of the call.
    key: Option<String>,
    /// Only calls with a key of this environment.
    #[param(value_type = Option<schema::Environment>)]
    environment: Option<String>,
    /// Only calls to the route with exactly this path template.
    endpoint: Option<String>,
    /// Only calls with exactly this method.
    method: Option<String>,
    /// Only calls with this status, or with a status of this class.
    #[param(value_type = Option<schema::StatusFilter>)]
    status: Option<String>,
    /// Only calls with this decision.
    #[param(value_type = Option<schema::Decision>)]
    decision: Option<String>,
    /// Only calls with this reason for the decision.
    #[param(value_type = Option<schema::Reason>)]
    reason: Option<String>,
    /// Only calls from this address or network.
    #[param(value_type = Option<schema::Network>)]
    ip: Option<String>,
    /// Only calls that began at this time or later.
    #[param(value_type = Option<schema::Instant>)]
    from: Option<String>,
    /// Only calls that began before this time.
    #[param(value_type = Option<schema::Instant>)]
    to: Option<String>,
}

// === impl FilterQuery ===

impl From<FilterQuery> for AuditQuery {
    fn from(query: FilterQuery) -> Self {
        let FilterQuery { key, environment, endpoint, method, status, decision, reason, ip, from, to } =
            query;
        Self { key, environment, endpoint, method, status, decision, reason, ip, from, to }
    }
}
