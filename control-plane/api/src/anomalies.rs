//! `GET /v1/anomalies`: anomalies in the use of keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use crate::access::READ;
use crate::endpoint::Endpoints;
use crate::extract::StrictQuery;
use crate::problem::Problem;
use crate::query::{Filtered, PageQuery};
use omniflow_api_types::anomaly::AnomalyJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::schema;
use omniflow_service::audit::RequestLog;
use omniflow_service::audit::anomalies::AnomalyQuery;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.add_query(READ, routes!(list))
}

/// The selected anomalies.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AnomalyFilter {
    /// Only anomalies of the key with this identifier, or with this name at the time.
    key: Option<String>,
    /// Only anomalies of this kind.
    #[param(value_type = Option<schema::AnomalyKind>)]
    kind: Option<String>,
    /// Only anomalies that were observed at this time or later.
    #[param(value_type = Option<schema::Instant>)]
    from: Option<String>,
    /// Only anomalies that began before this time.
    #[param(value_type = Option<schema::Instant>)]
    to: Option<String>,
}

/// List anomalies in key usage, newest first.
#[utoipa::path(
    get,
    path = "/v1/anomalies",
    operation_id = "list_anomalies",
    tag = "anomalies",
    params(AnomalyFilter, PageQuery),
    responses((status = 200, body = Page<AnomalyJson>, description = "A page of anomalies.")),
)]
pub(super) async fn list(
    State(log): State<Arc<RequestLog>>,
    StrictQuery(query): StrictQuery<Filtered<AnomalyFilter, PageQuery>>,
) -> Result<Json<Page<AnomalyJson>>, Problem> {
    let page = log.anomalies(query.filter.into(), query.options.into()).await?;
    Ok(Json(Page::json(page, AnomalyJson::from)))
}

impl From<AnomalyFilter> for AnomalyQuery {
    fn from(AnomalyFilter { key, kind, from, to }: AnomalyFilter) -> Self {
        Self { key, kind, from, to }
    }
}
