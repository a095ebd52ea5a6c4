//! `GET /v1/gateways`: who enforces what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::access::{Endpoints, READ};
use super::extract::StrictQuery;
use super::problem::Problem;
use super::query;
use crate::app::App;
use crate::fleet::GatewayId;
use crate::json::gateway::{GatewayJson, GatewayList};
use crate::json::page::Page;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.get("/v1/gateways", READ, list)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<GatewayList>, Problem> {
    let limit = query::limit(query.limit)?;
    let after = query::cursor(query.cursor, GatewayId::parse)?;
    let version = app.publication.version()?;
    let page = Page::of(app.fleet.list(after.as_ref(), limit + 1), limit, |(id, _)| id.to_string())
        .map(|(id, gateway)| GatewayJson::new(&id, &gateway, version));
    Ok(Json(GatewayList { items: page.items, next_cursor: page.next_cursor, version }))
}
