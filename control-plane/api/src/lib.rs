//! The HTTP API: each handler extracts a request, calls a use case and returns the result as JSON.
//!
//! | module | content |
//! |---|---|
//! | [`state`] | the state of the router, and the parts of it that handlers extract |
//! | `access` | the roles that may call each endpoint; the only way to add an endpoint |
//! | `keys`, `tokens`, `policy`, `audit`, `leaks`, `admin_log`, `gateways` | endpoints for admins |
//! | `gateway` | endpoints for gateways |
//! | `health`, `metrics`, `docs`, `openapi` | probes, Prometheus metrics, the API's documentation |
//! | `problem` | the only place that converts errors to HTTP responses |
//! | `extract`, `query`, `params`, `precondition`, `idempotency` | extractors that several endpoints share |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

mod access;
mod admin_log;
mod anomalies;
mod audit;
mod docs;
mod extract;
mod gateway;
mod gateways;
mod health;
mod idempotency;
mod keys;
mod leaks;
mod metrics;
mod openapi;
mod params;
mod policy;
mod precondition;
mod problem;
mod query;
pub mod state;
mod tokens;

#[cfg(test)]
mod problems;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;

use self::access::Endpoints;
pub use self::problem::Problem;
use self::state::{Api, AppState};

/// The routes of the API, without a fallback.
pub fn router(api: Arc<Api>) -> Router {
    endpoints(Arc::clone(&api)).router().with_state(AppState(api))
}

/// The endpoints of the API.
fn endpoints(api: Arc<Api>) -> Endpoints {
    let mut endpoints = Endpoints::new(api);
    for add in [
        health::endpoints,
        keys::endpoints,
        leaks::endpoints,
        audit::endpoints,
        anomalies::endpoints,
        policy::endpoints,
        gateways::endpoints,
        tokens::endpoints,
        admin_log::endpoints,
        gateway::endpoints,
        docs::endpoints,
    ] {
        endpoints = add(endpoints);
    }
    endpoints
}
