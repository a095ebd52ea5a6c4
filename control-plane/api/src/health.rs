//! Liveness and readiness probes.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::routes;

use super::access::Access;
use super::endpoint::Endpoints;
use super::metrics;
use super::problem::Problem;
use omniflow_service::monitoring::Monitoring;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .add(Access::Public, routes!(healthz))
        .add(Access::Public, routes!(readyz))
        .add(Access::Public, routes!(metrics::metrics))
}

/// Check liveness.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "health",
    responses((status = 200, body = String, content_type = "text/plain", description = "The process is running.")),
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Check readiness.
///
/// The control plane is ready when the image of all keys is built and the databases respond.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "health",
    responses((status = 200, body = String, content_type = "text/plain", description = "The control plane is ready.")),
)]
pub(super) async fn readyz(State(monitoring): State<Arc<Monitoring>>) -> Result<&'static str, Problem> {
    monitoring.check_ready().await?;
    Ok("ready\n")
}
