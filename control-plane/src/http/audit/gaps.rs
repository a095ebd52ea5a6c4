//! `GET /v1/audit/gaps`: what is missing in the log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use omniflow_domain::error::Error;
use omniflow_policy::time::UnixMillis;

use crate::http::extract::StrictQuery;
use crate::http::problem::Problem;
use crate::http::query::PageQuery;
use crate::service::app::App;
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
    State(app): State<Arc<App>>,
    StrictQuery(query): StrictQuery<PageQuery>,
) -> Result<Json<Page<AuditGapJson>>, Problem> {
    let (limit, before) = query.read(|text| text.parse().ok())?;
    let gaps = app.storage.audit.audit_gaps(before, limit + 1).await?;
    Ok(Json(Page::of(gaps, limit, |gap| gap.id.to_string()).map(AuditGapJson::from)))
}

/// At most `limit` gaps that end from `from` until before `to`, the last first.
pub(in crate::http) async fn between(
    app: &App,
    (from, to): (UnixMillis, UnixMillis),
    limit: usize,
) -> Result<Vec<AuditGapJson>, Error> {
    let gaps = app.storage.audit.audit_gaps_between(from, to, limit).await?;
    Ok(gaps.into_iter().map(AuditGapJson::from).collect())
}
