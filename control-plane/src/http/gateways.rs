//! `GET /v1/gateways`: who enforces what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::access::{Endpoints, READ};
use super::extract::StrictQuery;
use super::problem::Problem;
use super::query::PageQuery;
use crate::service::app::App;
use omniflow_api_types::gateway::{GatewayJson, GatewayList};
use omniflow_api_types::page::Page;
use omniflow_domain::error::Error;
use omniflow_domain::gateway::GatewayId;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.get("/v1/gateways", READ, list)
}

/// Lists gateways and what each enforces.
#[utoipa::path(
    get,
    path = "/v1/gateways",
    operation_id = "list_gateways",
    tag = "gateways",
    params(PageQuery),
    responses((status = 200, body = GatewayList, description = "A page of gateways.")),
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    StrictQuery(query): StrictQuery<PageQuery>,
) -> Result<Json<GatewayList>, Problem> {
    Ok(Json(select(&app, query)?))
}

/// The gateways that are asked for.
pub(super) fn select(app: &App, query: PageQuery) -> Result<GatewayList, Error> {
    let (limit, after) = query.read(GatewayId::parse)?;
    let version = app.publisher.publication.version()?;
    let Page { items, next_cursor } =
        Page::of(app.fleet.status(after.as_ref(), limit + 1, version), limit, |gateway| {
            gateway.id.to_string()
        })
        .map(GatewayJson::from);
    Ok(GatewayList { items, next_cursor, version })
}
