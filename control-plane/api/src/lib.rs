//! The HTTP API: extract a request, call a use case, answer with its JSON.
//!
//! | module | idea |
//! |---|---|
//! | [`state`] | the state of the router, and the slices of it that handlers take |
//! | `access` | which roles each endpoint admits; there is no other way to add one |
//! | `keys`, `tokens`, `policy`, `audit`, `leaks`, `events`, `gateways` | the endpoints of admins |
//! | `gateway` | the endpoints of gateways |
//! | `health`, `metrics`, `docs`, `openapi` | probes, numbers for Prometheus, the API's own documents |
//! | `problem` | the one place that turns errors into HTTP |
//! | `extract`, `query`, `params`, `precondition`, `idempotency` | what several endpoints read from a request |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod access;
mod audit;
mod docs;
mod events;
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
        policy::endpoints,
        gateways::endpoints,
        tokens::endpoints,
        events::endpoints,
        gateway::endpoints,
        docs::endpoints,
    ] {
        endpoints = add(endpoints);
    }
    endpoints
}
