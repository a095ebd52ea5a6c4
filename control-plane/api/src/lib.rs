//! The HTTP API: each handler extracts a request, calls a use case and returns the result as JSON.
//!
//! | module | content |
//! |---|---|
//! | [`state`] | the state of the router, and the parts of it that handlers extract |
//! | `endpoint` | registration: each endpoint with its access, for the router and the OpenAPI document |
//! | `access` | authentication, and the check of the roles |
//! | `keys`, `tokens`, `policy`, `audit`, `anomalies`, `leaks`, `admin_log`, `gateways` | endpoints for admins |
//! | `gateway_protocol` | endpoints for gateways |
//! | `health`, `metrics`, `docs`, `openapi` | probes, Prometheus metrics, API documentation |
//! | `problem` | the only place that converts errors to HTTP responses |
//! | `wording` | texts of errors |
//! | `extract`, `query`, `params`, `precondition`, `entity_tag`, `idempotency` | extractors and headers that several endpoints share |
//! | `query_permit` | the limit of concurrent long queries per token |
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
mod endpoint;
mod entity_tag;
mod extract;
mod gateway_protocol;
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
mod query_permit;
pub mod state;
mod tokens;
mod wording;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;

use self::endpoint::Endpoints;
pub use self::problem::Problem;
use self::state::{Api, AppState, Document};

/// The routes of the API, without a fallback.
pub fn router(api: Arc<Api>) -> Router {
    let (router, collected) = endpoints(Arc::clone(&api)).into_parts();
    let document = Document(openapi::complete(collected).to_string().into());
    router.with_state(AppState { api, document, scrapes: Arc::default() })
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
        gateway_protocol::endpoints,
        docs::endpoints,
    ] {
        endpoints = add(endpoints);
    }
    endpoints
}
