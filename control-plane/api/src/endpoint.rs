//! Registration of endpoints.
//!
//! The `#[utoipa::path]` attribute of a handler states its method, path and documentation; the registration adds the access.
//! Router and OpenAPI document are built from the same registrations.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};

use super::access::{Access, TokenMiddleware};
use super::openapi;
use super::problem::Problem;
use super::query_permit;
use super::state::{Api, AppState};
use omniflow_api_types::request_error::HttpError;

/// Maximum length of a request body in bytes. An endpoint can override it with its own [`DefaultBodyLimit`] layer.
pub(super) const BODY_LIMIT: usize = 256 * 1024;

/// The endpoints that are registered so far.
pub(super) struct Endpoints {
    api: Arc<Api>,
    middleware: TokenMiddleware,
    documented: OpenApiRouter<AppState>,
    undocumented: OpenApiRouter<AppState>,
}

// === impl Endpoints ===

impl Endpoints {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self {
            middleware: TokenMiddleware::new(Arc::clone(&api)),
            api,
            documented: OpenApiRouter::with_openapi(openapi::without_operations()),
            undocumented: OpenApiRouter::default(),
        }
    }

    /// Adds an endpoint, given as `routes!(handler)`.
    pub(super) fn add(mut self, access: Access, endpoint: UtoipaMethodRouter<AppState>) -> Self {
        let endpoint = self.protected(access, endpoint);
        self.documented = self.documented.routes(endpoint);
        self
    }

    /// Adds an endpoint that queries many rows, such as a filtered list. The concurrent requests of a token are limited.
    pub(super) fn add_query(self, access: Access, endpoint: UtoipaMethodRouter<AppState>) -> Self {
        let log = Arc::clone(&self.api.request_log);
        let (schemas, paths, handler) = endpoint;
        let handler = handler.route_layer(middleware::from_fn_with_state(log, query_permit::require));
        self.add(access, (schemas, paths, handler))
    }

    /// Adds an endpoint that the OpenAPI document omits, because it is not part of the API for admins.
    pub(super) fn add_undocumented(mut self, access: Access, endpoint: UtoipaMethodRouter<AppState>) -> Self {
        let endpoint = self.protected(access, endpoint);
        self.undocumented = self.undocumented.routes(endpoint);
        self
    }

    /// Applies the common layers to the endpoint and adds its access to its description. The roles are checked before the
    /// body is read.
    fn protected(
        &self,
        access: Access,
        endpoint: UtoipaMethodRouter<AppState>,
    ) -> UtoipaMethodRouter<AppState> {
        let takes_query = endpoint.1.paths.values().flat_map(documented).any(takes_query);
        let (schemas, mut paths, handler) = endpoint.map(|handler| {
            let mut handler = handler.route_layer(DefaultBodyLimit::max(BODY_LIMIT));
            // Probes of public endpoints may add any query.
            if !takes_query && !matches!(access, Access::Public) {
                handler = handler.route_layer(middleware::from_fn(reject_query));
            }
            self.middleware.protect(access, handler)
        });
        for operation in paths.paths.values_mut().flat_map(operations) {
            openapi::state_access(operation, access);
        }
        (schemas, paths, handler)
    }

    /// The router, and the OpenAPI document.
    pub(super) fn into_parts(self) -> (Router<AppState>, OpenApi) {
        let (documented, document) = self.documented.split_for_parts();
        (documented.merge(Router::from(self.undocumented)), document)
    }

    /// The operations of all endpoints, including those that the OpenAPI document omits.
    #[cfg(test)]
    pub(super) fn descriptions(&self) -> [&OpenApi; 2] {
        [self.documented.get_openapi(), self.undocumented.get_openapi()]
    }
}

/// Rejects query parameters of an endpoint that takes none, instead of ignoring them.
async fn reject_query(request: Request, next: Next) -> Result<Response, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let name =
        query.split('&').map(|pair| pair.split('=').next().unwrap_or_default()).find(|name| !name.is_empty());
    match name {
        None => Ok(next.run(request).await),
        Some(name) => Err(HttpError::invalid_query(
            name,
            "This endpoint does not accept query parameters. Remove them.",
        )
        .into()),
    }
}

/// Whether an operation documents a query parameter.
fn takes_query(operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|parameter| matches!(parameter, RefOr::T(one) if one.parameter_in == ParameterIn::Query))
}

/// The operations of a path, read-only.
fn documented(item: &PathItem) -> impl Iterator<Item = &Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

/// The operations of a path. `QUERY` is missing, because axum does not route it.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::http::{Method, StatusCode, header};
    use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH};
    use serde_json::json;
    use tower::ServiceExt;

    use crate::tests::table;
    use omniflow_test_server::{TestServer, request};

    /// Endpoints whose requests have no body.
    const WITHOUT_BODY: [&str; 3] =
        ["/v1/audit/payload-key/rotate", "/v1/keys/{id}/revoke", "/v1/keys/{id}/versions/{version}/revoke"];
    /// Endpoints that take a policy, a report of leaks or a batch of records.
    const LARGE_BODY: [&str; 6] =
        ["/v1/policy", "/v1/policy/diff", "/v1/policy/explain", "/v1/policy/replay", "/v1/leaks", AUDIT_PATH];

    #[tokio::test]
    async fn paths_have_no_methods_beside_the_registered_ones() {
        let server = TestServer::new().await;
        let mut registered: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for endpoint in table(&server) {
            registered.entry(endpoint.path).or_default().insert(endpoint.method.to_string());
        }
        for (path, methods) in registered {
            for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let call = request(method.clone(), &path, &server.owner, Some(json!({})));
                // The body is not read: that of a stream has no end.
                let answer = server.router.clone().oneshot(call).await.unwrap();
                let is_missing = answer.status() == StatusCode::METHOD_NOT_ALLOWED;
                assert_eq!(is_missing, !methods.contains(method.as_str()), "{method} {path}");
            }
        }
    }

    #[tokio::test]
    async fn unknown_query_parameters_are_rejected_everywhere() {
        let server = TestServer::new().await;
        let [gateway, auditor] = [server.token("gateway").await, server.token("auditor").await];
        for endpoint in table(&server) {
            let admits = |role: &str| endpoint.roles.iter().any(|admitted| admitted == role);
            let token = match () {
                () if admits("owner") => &server.owner,
                () if admits("auditor") => &auditor,
                () if admits("gateway") => &gateway,
                // A public endpoint.
                () => continue,
            };
            let path = format!("{}?colour=red", endpoint.path.replace("{version}", "1"));
            let answer = server.call(request(endpoint.method.clone(), &path, token, Some(json!({})))).await;
            let problem = answer.problem();
            assert_eq!((problem.0, problem.1.as_str()), (400, "invalid_query"), "{} {path}", endpoint.method);
        }
    }

    #[tokio::test]
    async fn bodies_above_the_limit_are_rejected() {
        let server = TestServer::new().await;
        let gateway = server.token("gateway").await;
        for endpoint in table(&server) {
            let path = endpoint.path.as_str();
            if [Method::GET, Method::DELETE].contains(&endpoint.method) || WITHOUT_BODY.contains(&path) {
                continue;
            }
            let limit = if LARGE_BODY.contains(&path) { 1024 * 1024 } else { 256 * 1024 };
            let token = if path.starts_with("/gateway/") { &gateway } else { &server.owner };
            for (length, is_rejected) in [(limit, false), (limit + 1, true)] {
                let mut call = request(endpoint.method.clone(), path, token, Some(json!({})));
                if path == AUDIT_PATH {
                    call.headers_mut().insert(header::CONTENT_TYPE, AUDIT_MEDIA_TYPE.parse().unwrap());
                }
                *call.body_mut() = vec![b' '; length].into();
                let status = server.call(call).await.status;
                assert_eq!(
                    status == StatusCode::PAYLOAD_TOO_LARGE,
                    is_rejected,
                    "{path}: {length}: {status}"
                );
            }
        }
    }
}
