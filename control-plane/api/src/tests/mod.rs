//! Behavior that spans several endpoints and background jobs.

mod detection;
mod gateway_loss;
mod gateways;
mod golden_problems;
mod reference;
mod retention;

use std::sync::Arc;

use axum::http::Method;
use omniflow_domain::key::Key;
use omniflow_policy::snapshot::Change;
use omniflow_test_server::TestServer;
use serde_json::{Value, json};

use crate::state::Api;

/// A registered endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// HTTP method.
    pub(crate) method: Method,
    /// Path template.
    pub(crate) path: String,
    /// The roles that it admits; none if it is public.
    pub(crate) roles: Vec<String>,
}

/// All endpoints, also those that the OpenAPI document omits.
pub(crate) fn table(server: &TestServer) -> Vec<Endpoint> {
    let endpoints = crate::endpoints(api_of(server));
    endpoints.descriptions().into_iter().flat_map(|one| endpoints_of(&json!(one))).collect()
}

/// The endpoints in an OpenAPI document.
pub(crate) fn endpoints_of(document: &Value) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let roles = operation["x-required-roles"].as_array().into_iter().flatten();
            endpoints.push(Endpoint {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                roles: roles.map(|role| role.as_str().unwrap().to_owned()).collect(),
            });
        }
    }
    endpoints
}

/// Stores and publishes a key in a state that the API does not create.
pub(crate) async fn publish_key(server: &TestServer, key: &Key) {
    let publisher = &server.app.publisher;
    let _turn = publisher.turn().await;
    let mut transaction = server.app.store.begin().await.unwrap();
    transaction.insert_keys(std::slice::from_ref(key)).await.unwrap();
    publisher.commit(transaction, key.credentials().map(Change::Put).collect()).await.unwrap();
}

/// The state of a server's API in the types of this build of the crate: the server itself uses another build.
pub(crate) fn api_of(server: &TestServer) -> Arc<Api> {
    let api = &server.app.api;
    Arc::new(Api {
        authentication: Arc::clone(&api.authentication),
        connection_table: Arc::clone(&api.connection_table),
        certificate_expiry: api.certificate_expiry.clone(),
        clock: api.clock.clone(),
        keys: Arc::clone(&api.keys),
        tokens: Arc::clone(&api.tokens),
        policies: Arc::clone(&api.policies),
        leaks: Arc::clone(&api.leaks),
        request_log: Arc::clone(&api.request_log),
        anomalies: Arc::clone(&api.anomalies),
        admin_log: Arc::clone(&api.admin_log),
        gateways: Arc::clone(&api.gateways),
        gateway_protocol: Arc::clone(&api.gateway_protocol),
        monitoring: Arc::clone(&api.monitoring),
        metrics: Arc::clone(&api.metrics),
    })
}
