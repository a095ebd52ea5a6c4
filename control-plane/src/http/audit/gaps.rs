//! `GET /v1/audit/gaps`: what is missing in the log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::http::extract::StrictQuery;
use crate::http::problem::Problem;
use crate::http::query::PageQuery;
use crate::service::audit::RequestLog;
use omniflow_api_types::audit::AuditGapJson;
use omniflow_api_types::page::Page;

/// Lists what is missing in the log, found last first.
#[utoipa::path(
    get,
    path = "/v1/audit/gaps",
    operation_id = "list_audit_gaps",
    tag = "audit",
    params(PageQuery),
    responses((status = 200, body = Page<AuditGapJson>, description = "A page of gaps.")),
)]
pub(in crate::http) async fn gaps(
    State(log): State<Arc<RequestLog>>,
    StrictQuery(query): StrictQuery<PageQuery>,
) -> Result<Json<Page<AuditGapJson>>, Problem> {
    Ok(Json(Page::json(log.gaps(query.into()).await?, AuditGapJson::from)))
}
