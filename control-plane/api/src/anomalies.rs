//! `GET /v1/anomalies`: anomalies in the usage of keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use utoipa_axum::routes;

use crate::access::READ;
use crate::endpoint::Endpoints;
use crate::extract::StrictQuery;
use crate::problem::Problem;
use crate::query::Filtered;
use omniflow_api_types::anomaly::AnomalyJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::parameters::{AnomalyParameters, PageParameters};
use omniflow_service::anomalies::Anomalies;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.add_query(READ, routes!(list))
}

/// List anomalies in key usage, newest first.
#[utoipa::path(
    get,
    path = "/v1/anomalies",
    operation_id = "list_anomalies",
    tag = "anomalies",
    params(AnomalyParameters, PageParameters),
    responses((status = 200, body = Page<AnomalyJson>, description = "A page of anomalies.")),
)]
pub(super) async fn list(
    State(anomalies): State<Arc<Anomalies>>,
    StrictQuery(query): StrictQuery<Filtered<AnomalyParameters, PageParameters>>,
) -> Result<Json<Page<AnomalyJson>>, Problem> {
    let page = anomalies.list(query.filter.parse()?, query.options.parse()?).await?;
    Ok(Json(Page::json(page, AnomalyJson::from)))
}
