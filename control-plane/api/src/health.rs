//! Whether the process lives, and whether it can serve.

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

/// Tells that the process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "health",
    responses((status = 200, body = String, content_type = "text/plain", description = "It does.")),
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tells whether the process can serve: the image is built and the databases answer.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "health",
    responses((status = 200, body = String, content_type = "text/plain", description = "It can.")),
)]
pub(super) async fn readyz(State(monitoring): State<Arc<Monitoring>>) -> Result<String, Problem> {
    Ok(describe(&monitoring.check_ready().await?))
}

/// "ready" in the first line, and then one value per line.
fn describe(Readiness { space, lost_records }: &Readiness) -> String {
    let mut text = format!("ready\naudit log: {} bytes\n", space.log_bytes);
    if let Some(free) = space.free_bytes {
        text.push_str(&format!("free space: {free} bytes\n"));
    }
    if space.is_below_reserve() {
        let reserve = space.limits.reserve_bytes;
        text.push_str(&format!(
            "warning: less than {reserve} bytes are free, so audit records are refused\n"
        ));
    }
    let rejected = space.refused_batches + space.failed_batches;
    text.push_str(&format!("audit batches not stored: {rejected}\naudit records lost: {lost_records}\n"));
    text
}
