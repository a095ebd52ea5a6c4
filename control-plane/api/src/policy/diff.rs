//! `GET /v1/policy/diff?from=1&to=2` compares two versions. `POST /v1/policy/diff` compares a draft with the effective
//! policy, and checks the draft as if it were set.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::document::DraftBody;
use crate::extract::StrictQuery;
use crate::problem::Problem;
use omniflow_api_types::parameters::Parser;
use omniflow_api_types::policy::{PolicyDiffJson, SetPolicy};
use omniflow_api_types::request_error::{HttpError, RequestError};
use omniflow_service::policy::Policies;
use omniflow_service::policy::diff::{CompareError, CompareVersions};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// Earlier version; the effective one if omitted.
    #[param(value_type = Option<u64>, minimum = 1)]
    from: Option<String>,
    /// Later version; the effective one if omitted.
    #[param(value_type = Option<u64>, minimum = 1)]
    to: Option<String>,
}

/// Compare two versions of the policy.
#[utoipa::path(
    get,
    path = "/v1/policy/diff",
    operation_id = "diff_policy_versions",
    tag = "policy",
    params(DiffQuery),
    responses((status = 200, body = PolicyDiffJson, description = "The differences.")),
)]
pub(crate) async fn between_versions(
    State(policies): State<Arc<Policies>>,
    StrictQuery(query): StrictQuery<DiffQuery>,
) -> Result<Json<PolicyDiffJson>, Problem> {
    let request = CompareVersions { from: version("from", query.from)?, to: version("to", query.to)? };
    let comparison = policies.compare_versions(request).await.map_err(|error| match error {
        CompareError::UnknownFrom => RequestError::from(unknown_version("from")),
        CompareError::UnknownTo => RequestError::from(unknown_version("to")),
        CompareError::Failed(error) => RequestError::from(error),
    })?;
    Ok(Json(comparison.into()))
}

/// The number of a version.
fn version(name: &str, value: Option<String>) -> Result<Option<u64>, HttpError> {
    Parser::text(value).map(|text| text.parse().map_err(|_| unknown_version(name))).transpose()
}

fn unknown_version(name: &str) -> HttpError {
    let detail =
        format!("{name} must be the number of a policy version: list versions with GET /v1/policy/versions");
    HttpError::invalid_query(name, detail)
}

/// Compare a draft with the effective policy.
///
/// The draft is validated but not published.
#[utoipa::path(
    post,
    path = "/v1/policy/diff",
    operation_id = "diff_policy_draft",
    tag = "policy",
    request_body(content((SetPolicy = "application/json"), (String = "application/toml"))),
    responses((status = 200, body = PolicyDiffJson, description = "The differences.")),
)]
pub(crate) async fn to_draft(
    State(policies): State<Arc<Policies>>,
    DraftBody(draft): DraftBody,
) -> Result<Json<PolicyDiffJson>, Problem> {
    Ok(Json(policies.compare_draft(draft).await?.into()))
}
