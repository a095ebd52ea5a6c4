//! `GET /v1/policy`: routes and scopes in force.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::access::{Endpoints, READ};
use super::problem::Problem;
use crate::app::App;
use crate::json::policy::PolicyJson;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.get("/v1/policy", READ, show)
}

async fn show(State(app): State<Arc<App>>) -> Result<Json<PolicyJson>, Problem> {
    let (policy, version) = app.publication.policy()?;
    Ok(Json(PolicyJson { version, document: policy.document().clone() }))
}
