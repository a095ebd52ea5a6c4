//! Gateways: listed with the version that each enforces, and removed when they have ended.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::routes;

use super::access::{Authenticated, READ, WRITE};
use super::endpoint::Endpoints;
use super::extract::{Segments, StrictQuery};
use super::params::GatewayPath;
use super::problem::Problem;
use omniflow_api_types::gateway::{GatewayJson, GatewayList};
use omniflow_api_types::page::Page;
use omniflow_api_types::parameters::PageParameters;
use omniflow_service::gateways::{GatewayPage, Gateways};

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.add(READ, routes!(list)).add(WRITE, routes!(remove))
}

/// List gateways and the version that each worker enforces.
#[utoipa::path(
    get,
    path = "/v1/gateways",
    operation_id = "list_gateways",
    tag = "gateways",
    params(PageParameters),
    responses((status = 200, body = GatewayList, description = "A page of gateways.")),
)]
pub(super) async fn list(
    State(gateways): State<Arc<Gateways>>,
    StrictQuery(query): StrictQuery<PageParameters>,
) -> Result<Json<GatewayList>, Problem> {
    let GatewayPage { page, version, .. } = gateways.list(query.parse()?)?;
    let Page { items, next_cursor } = Page::json(page, GatewayJson::from);
    Ok(Json(GatewayList { items, next_cursor, version }))
}

/// Remove a gateway that has ended.
///
/// The gateway no longer counts toward enforcement. If it still runs, it reappears with its next request.
#[utoipa::path(
    delete,
    path = "/v1/gateways/{id}",
    operation_id = "remove_gateway",
    tag = "gateways",
    params(GatewayPath),
    responses((status = 204, description = "The gateway is removed.")),
)]
pub(super) async fn remove(
    State(gateways): State<Arc<Gateways>>,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
) -> Result<StatusCode, Problem> {
    gateways.remove(&principal, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
