//! `GET /v1/audit/patterns`: what is unusual in the use of keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::extract::StrictQuery;
use crate::problem::Problem;
use crate::query::{Filtered, PageQuery};
use omniflow_api_types::finding::FindingJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::schema;
use omniflow_service::audit::RequestLog;
use omniflow_service::audit::anomalies::AnomalyQuery;

/// Which findings.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PatternFilter {
    /// Findings of this key, by identifier or by its name at the time.
    key: Option<String>,
    /// Findings of this pattern.
    #[param(value_type = Option<schema::FindingKind>)]
    kind: Option<String>,
    /// Findings that went on at this time or later.
    #[param(value_type = Option<schema::Instant>)]
    from: Option<String>,
    /// Findings that began before this time.
    #[param(value_type = Option<schema::Instant>)]
    to: Option<String>,
}

/// Lists what is unusual in the use of keys, found last first.
#[utoipa::path(
    get,
    path = "/v1/audit/patterns",
    operation_id = "list_findings",
    tag = "audit",
    params(PatternFilter, PageQuery),
    responses((status = 200, body = Page<FindingJson>, description = "A page of findings.")),
)]
pub(crate) async fn patterns(
    State(log): State<Arc<RequestLog>>,
    StrictQuery(query): StrictQuery<Filtered<PatternFilter, PageQuery>>,
) -> Result<Json<Page<FindingJson>>, Problem> {
    let page = log.anomalies(query.filter.into(), query.options.into()).await?;
    Ok(Json(Page::json(page, FindingJson::from)))
}

impl From<PatternFilter> for AnomalyQuery {
    fn from(PatternFilter { key, kind, from, to }: PatternFilter) -> Self {
        Self { key, kind, from, to }
    }
}
