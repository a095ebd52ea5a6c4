//! `GET /v1/audit/{id}`: one call.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::extract::Segments;
use crate::params::RecordPath;
use crate::problem::Problem;
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_service::audit::RequestLog;

/// Show a call.
#[utoipa::path(
    get,
    path = "/v1/audit/{id}",
    operation_id = "show_audit_record",
    tag = "audit",
    params(RecordPath),
    responses((status = 200, body = AuditEntryJson, description = "The call.")),
)]
pub(crate) async fn show(
    State(log): State<Arc<RequestLog>>,
    Segments(id): Segments<String>,
) -> Result<Json<AuditEntryJson>, Problem> {
    Ok(Json(log.show(&id).await?.into()))
}
