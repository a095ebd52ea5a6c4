//! The audit log: every call, newest first; what is missing in it; what it amounts to; and new calls as they come.

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

/// Which calls.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FilterQuery {
    /// Calls of this key, by identifier or by its name at the time of the call.
    key: Option<String>,
    /// Calls with a key of this environment.
    #[param(value_type = Option<schema::Environment>)]
    environment: Option<String>,
    /// Calls to exactly this route template.
    endpoint: Option<String>,
    /// Calls with exactly this method.
    method: Option<String>,
    /// Calls with this status, or with one of this class.
    #[param(value_type = Option<schema::StatusFilter>)]
    status: Option<String>,
    /// Calls that were decided so.
    #[param(value_type = Option<schema::Decision>)]
    decision: Option<String>,
    /// Calls that were decided so for this reason.
    #[param(value_type = Option<schema::Reason>)]
    reason: Option<String>,
    /// Calls from this address, or from this network.
    #[param(value_type = Option<schema::Network>)]
    ip: Option<String>,
    /// Calls that began at this time or later.
    #[param(value_type = Option<schema::Instant>)]
    from: Option<String>,
    /// Calls that began before this time.
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
