//! `GET /v1/policy/diff?from=1&to=2`: what differs between two versions. `POST /v1/policy/diff`: what a draft would
//! change in the one in force; the draft is checked as if it were set.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::policy_diff::PolicyDiff;
use serde::Deserialize;
use utoipa::IntoParams;

use super::conflicts;
use super::document::Draft;
use crate::http::extract::StrictQuery;
use crate::http::problem::Problem;
use crate::http::query;
use crate::service::app::App;
use omniflow_api_types::policy::{ObstacleJson, PolicyDiffJson, SetPolicy};
use omniflow_domain::error::Error;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DiffQuery {
    /// The version before; the one in force if not stated.
    #[param(value_type = Option<u64>, minimum = 1)]
    from: Option<String>,
    /// The version after; the one in force if not stated.
    #[param(value_type = Option<u64>, minimum = 1)]
    to: Option<String>,
}

/// Tells what differs between two versions.
#[utoipa::path(
    get,
    path = "/v1/policy/diff",
    operation_id = "diff_policy_versions",
    tag = "policy",
    params(DiffQuery),
    responses((status = 200, body = PolicyDiffJson, description = "What differs.")),
)]
pub(in crate::http) async fn between_versions(
    State(app): State<Arc<App>>,
    StrictQuery(query): StrictQuery<DiffQuery>,
) -> Result<Json<PolicyDiffJson>, Problem> {
    Ok(Json(compare(&app, query).await?))
}

/// What differs between two versions.
pub(in crate::http) async fn compare(app: &App, query: DiffQuery) -> Result<PolicyDiffJson, Error> {
    let from = version(app, "from", query.from).await?;
    let to = version(app, "to", query.to).await?;
    let diff = PolicyDiff::between(&from.1, &to.1);
    Ok(PolicyDiffJson::new(from.0, Some(to.0), Vec::new(), diff))
}

/// Tells what a draft would change in the policy in force. It is checked as if it were set.
#[utoipa::path(
    post,
    path = "/v1/policy/diff",
    operation_id = "diff_policy_draft",
    tag = "policy",
    request_body(content((SetPolicy = "application/json"), (String = "application/toml"))),
    responses((status = 200, body = PolicyDiffJson, description = "What differs.")),
)]
pub(in crate::http) async fn to_draft(
    State(app): State<Arc<App>>,
    draft: Draft,
) -> Result<Json<PolicyDiffJson>, Problem> {
    Ok(Json(of_draft(&app, draft).await?))
}

/// What a draft would change in the policy in force.
pub(in crate::http) async fn of_draft(app: &App, draft: Draft) -> Result<PolicyDiffJson, Error> {
    let (current, from) = app.publisher.publication.policy()?;
    let draft = draft.compile(current.key_prefix()).await?;
    let diff = PolicyDiff::between(current.document(), draft.document());
    let blocked_by = conflicts::of_draft(app, &current, &draft).await?;
    let blocked_by = blocked_by.into_iter().map(ObstacleJson::from).collect();
    Ok(PolicyDiffJson::new(from, None, blocked_by, diff))
}

/// The version that a parameter names, and its number; the one in force where it names none.
async fn version(
    app: &App,
    name: &'static str,
    value: Option<String>,
) -> Result<(u64, PolicyDocument), Error> {
    let Some(text) = query::present(value) else {
        let (policy, version) = app.publisher.publication.policy()?;
        return Ok((version, policy.document().clone()));
    };
    let unknown = || {
        Error::invalid_query(
            name,
            format!("{name} is a version of the policy: list them with GET /v1/policy/versions"),
        )
    };
    let version = text.parse().map_err(|_| unknown())?;
    let stored = app.storage.main.policy_version(version).await?.ok_or_else(unknown)?;
    Ok((stored.version, stored.document))
}
