//! Liveness and readiness probes.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::routes;

use super::access::Access;
use super::endpoint::Endpoints;
use super::metrics;
use super::problem::Problem;
use omniflow_service::monitoring::{Monitoring, Readiness};

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
pub(super) async fn readyz(State(monitoring): State<Arc<Monitoring>>) -> Result<String, Problem> {
    Ok(describe(&monitoring.check_ready().await?))
}

/// "ready" in the first line, followed by one value per line.
fn describe(Readiness { space, lost_records, purged_records }: &Readiness) -> String {
    let mut text = format!("ready\naudit log: {} bytes\n", space.log_bytes);
    if let Some(free) = space.free_bytes {
        text.push_str(&format!("free space: {free} bytes\n"));
    }
    if space.is_below_reserve() {
        let reserve = space.limits.reserve_bytes;
        text.push_str(&format!(
            "warning: less than {reserve} bytes are free, so audit batches are rejected\n"
        ));
    }
    let rejected = space.rejected_batches + space.failed_batches;
    text.push_str(&format!(
        "audit batches not stored: {rejected}\naudit records lost: {lost_records}\naudit records purged early: {purged_records}\n"
    ));
    text
}
