//! Whether the process lives, and whether it can serve.

use std::sync::Arc;

use axum::extract::State;

use super::access::{Access, Endpoints};
use super::problem::Problem;
use crate::app::App;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.get("/healthz", Access::Public, healthz).get("/readyz", Access::Public, readyz)
}

async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready once the image is built, and as long as the databases answer.
async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    app.publication.version()?;
    app.storage.ping().await?;
    Ok("ready\n")
}
