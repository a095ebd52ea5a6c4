//! `GET /v1/gateways`: gateways, and the version that each enforces.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use utoipa_axum::routes;

use super::access::READ;
use super::endpoint::Endpoints;
use super::extract::StrictQuery;
use super::problem::Problem;
use super::query::PageQuery;
use omniflow_api_types::gateway::{GatewayJson, GatewayList};
use omniflow_api_types::page::Page;
use omniflow_service::gateways::{GatewayPage, Gateways};

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.add(READ, routes!(list))
}

/// List gateways and the version that each worker enforces.
#[utoipa::path(
    get,
    path = "/v1/gateways",
    operation_id = "list_gateways",
    tag = "gateways",
    params(PageQuery),
    responses((status = 200, body = GatewayList, description = "A page of gateways.")),
)]
pub(super) async fn list(
    State(gateways): State<Arc<Gateways>>,
    StrictQuery(query): StrictQuery<PageQuery>,
) -> Result<Json<GatewayList>, Problem> {
    let GatewayPage { page, version, .. } = gateways.list(query.into())?;
    let Page { items, next_cursor } = Page::json(page, GatewayJson::from);
    Ok(Json(GatewayList { items, next_cursor, version }))
}
