//! `/gateway/v1`: the endpoints for filters, which require the gateway role.
//!
//! The OpenAPI document omits these endpoints: filters are their only clients, and `omniflow_policy` defines their formats.

mod audit;
mod images;
mod poll;

use axum::extract::DefaultBodyLimit;
use omniflow_policy::gateway::MAX_BATCH_BYTES;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use super::access::GATEWAY;
use super::endpoint::Endpoints;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .add_undocumented(GATEWAY, routes!(poll::poll))
        .add_undocumented(GATEWAY, routes!(images::chunk))
        .add_undocumented(GATEWAY, routes!(poll::enforced))
        .add_undocumented(GATEWAY, routes!(audit::ingest).layer(DefaultBodyLimit::max(MAX_BATCH_BYTES)))
}
