//! `GET /v1/audit/{id}`: one audited call.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::http::extract::Segments;
use crate::http::params::RecordPath;
use crate::http::problem::Problem;
use crate::service::app::App;
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_domain::audit::AuditEntry;
use omniflow_domain::error::Error;

/// Shows one audited call.
#[utoipa::path(
    get,
    path = "/v1/audit/{id}",
    operation_id = "show_audit_record",
    tag = "audit",
    params(RecordPath),
    responses((status = 200, body = AuditEntryJson, description = "The call.")),
)]
pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    Segments(id): Segments<String>,
) -> Result<Json<AuditEntryJson>, Problem> {
    Ok(Json(find(&app, &id).await?.into()))
}

/// The record with this number.
pub(in crate::http) async fn find(app: &App, id: &str) -> Result<AuditEntry, Error> {
    let no_such_record = || Error::not_found("The audit log has no such record.");
    let id = id.parse().map_err(|_| no_such_record())?;
    app.storage.audit.audit_entry(id).await?.ok_or_else(no_such_record)
}
