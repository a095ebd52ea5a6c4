//! `GET /v1/audit/gaps`: gaps in the audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::extract::StrictQuery;
use crate::problem::Problem;
use omniflow_api_types::audit::AuditGapJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::parameters::PageParameters;
use omniflow_service::audit::RequestLog;

/// List gaps in the audit log, most recently detected first.
#[utoipa::path(
    get,
    path = "/v1/audit/gaps",
    operation_id = "list_audit_gaps",
    tag = "audit",
    params(PageParameters),
    responses((status = 200, body = Page<AuditGapJson>, description = "A page of gaps.")),
)]
pub(crate) async fn gaps(
    State(log): State<Arc<RequestLog>>,
    StrictQuery(query): StrictQuery<PageParameters>,
) -> Result<Json<Page<AuditGapJson>>, Problem> {
    Ok(Json(Page::json(log.gaps(query.parse()?).await?, AuditGapJson::from)))
}
