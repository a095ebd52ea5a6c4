//! Behaviour that spans several endpoints and background jobs.

mod detection;
mod gateway_loss;
mod retention;

use std::sync::Arc;

use omniflow_test_server::TestServer;

use crate::state::Api;

/// The state of a server's API, as this build of the crate has it: the server itself was built with another.
pub(crate) fn api_of(server: &TestServer) -> Arc<Api> {
    let api = &server.app.api;
    Arc::new(Api {
        authentication: Arc::clone(&api.authentication),
        admission: Arc::clone(&api.admission),
        clock: api.clock.clone(),
        keys: Arc::clone(&api.keys),
        tokens: Arc::clone(&api.tokens),
        policies: Arc::clone(&api.policies),
        leaks: Arc::clone(&api.leaks),
        request_log: Arc::clone(&api.request_log),
        admin_log: Arc::clone(&api.admin_log),
        gateways: Arc::clone(&api.gateways),
        gateway_protocol: Arc::clone(&api.gateway_protocol),
        monitoring: Arc::clone(&api.monitoring),
        metrics: Arc::clone(&api.metrics),
    })
}
