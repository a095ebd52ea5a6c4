//! `GET /v1/audit/patterns`: what is unusual in the use of keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::extract::StrictQuery;
use crate::http::problem::Problem;
use crate::http::query::{self, PageQuery};
use crate::service::app::App;
use crate::storage::{FindingFilter, KeyReference};
use omniflow_api_types::finding::FindingJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::schema;
use omniflow_domain::error::Error;

/// Which findings.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct PatternFilter {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PatternQuery {
    #[serde(flatten)]
    filter: PatternFilter,
    #[serde(flatten)]
    page: PageQuery,
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
pub(in crate::http) async fn patterns(
    State(app): State<Arc<App>>,
    StrictQuery(query): StrictQuery<PatternQuery>,
) -> Result<Json<Page<FindingJson>>, Problem> {
    Ok(Json(select(&app, query).await?))
}

/// The findings that are asked for.
pub(in crate::http) async fn select(app: &App, query: PatternQuery) -> Result<Page<FindingJson>, Error> {
    let PatternQuery { filter, page } = query;
    let (limit, before) = page.read(|text| text.parse().ok())?;
    let filter = FindingFilter {
        key: query::present(filter.key).map(|key| KeyReference::from(key.as_str())),
        kind: query::parsed("kind", filter.kind)?,
        from: query::time("from", filter.from)?,
        to: query::time("to", filter.to)?,
    };
    let findings = app.storage.audit.findings(&filter, before, limit + 1).await?;
    Ok(Page::of(findings, limit, |finding| finding.id.to_string()).map(FindingJson::from))
}
