//! The policy: routes and scopes as one document, with its versions.

pub(super) mod diff;
pub(super) mod document;
pub(super) mod explain;
pub(super) mod replay;
pub(super) mod set;
pub(super) mod versions;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use omniflow_domain::error::Error;
use omniflow_policy::policy::PolicyDocument;
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use self::document::{BODY_LIMIT, TOML, wants_toml};
use super::access::{READ, WRITE};
use super::endpoint::Endpoints;
use super::entity_tag::entity_tag;
use super::precondition::tagged;
use super::problem::Problem;
use omniflow_api_types::gateway::EnforcementJson;
use omniflow_api_types::policy::PolicyJson;
use omniflow_service::policy::Policies;
use omniflow_service::policy::document::to_toml;
use omniflow_service::policy::set::EffectivePolicy;
use omniflow_service::publication::NumberedPolicy;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .add(READ, routes!(show))
        .add(WRITE, routes!(set::set).layer(DefaultBodyLimit::max(BODY_LIMIT)))
        .add(WRITE, routes!(set::roll_back))
        .add(READ, routes!(versions::list))
        .add(READ, routes!(versions::show))
        .add(READ, routes!(diff::between_versions))
        .add(READ, routes!(diff::to_draft).layer(DefaultBodyLimit::max(BODY_LIMIT)))
        .add(READ, routes!(explain::explain).layer(DefaultBodyLimit::max(BODY_LIMIT)))
        .add_query(READ, routes!(replay::replay).layer(DefaultBodyLimit::max(BODY_LIMIT)))
}

/// Show the effective policy.
///
/// Returns only the document, in TOML, if the Accept header prefers `application/toml`.
#[utoipa::path(
    get,
    path = "/v1/policy",
    operation_id = "show_policy",
    tag = "policy",
    responses(
        (status = 200, description = "The policy.", content((PolicyJson = "application/json"), (String = "application/toml")), headers(("ETag" = String))),
    ),
)]
pub(crate) async fn show(
    State(policies): State<Arc<Policies>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let current = policies.current()?;
    if wants_toml(&headers) {
        return in_toml(current.policy.document(), current.version).map_err(Into::into);
    }
    Ok(in_json(EffectivePolicy { current, enforcement: None }).into_response())
}

fn in_json(effective: EffectivePolicy) -> impl IntoResponse {
    let EffectivePolicy { current: NumberedPolicy { version, policy }, enforcement } = effective;
    let enforcement = enforcement.map(EnforcementJson::from);
    let body = PolicyJson { version, document: policy.document().clone(), enforcement };
    tagged(version, body)
}

fn in_toml(document: &PolicyDocument, version: u64) -> Result<Response, Error> {
    let headers = [(header::CONTENT_TYPE, TOML.to_owned()), (header::ETAG, entity_tag(version))];
    Ok((headers, to_toml(document)?).into_response())
}
