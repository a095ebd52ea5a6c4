//! Registration of endpoints.
//!
//! The `#[utoipa::path]` attribute of a handler states its method, path and documentation; the registration adds the access.
//! Router and OpenAPI document are built from the same registrations.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};

use super::access::{Access, TokenMiddleware};
use super::openapi;
use super::query_turn;
use super::state::{Api, AppState};

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

    /// Adds an endpoint that runs a query of many rows, such as a list with filters. A token runs few of these at once.
    pub(super) fn add_query(self, access: Access, endpoint: UtoipaMethodRouter<AppState>) -> Self {
        let log = Arc::clone(&self.api.request_log);
        let (schemas, paths, handler) = endpoint;
        let handler = handler.route_layer(middleware::from_fn_with_state(log, query_turn::take));
        self.add(access, (schemas, paths, handler))
    }

    /// Adds an endpoint that the OpenAPI document omits, because it is not part of the API for admins.
    pub(super) fn add_undocumented(mut self, access: Access, endpoint: UtoipaMethodRouter<AppState>) -> Self {
        let endpoint = self.protected(access, endpoint);
        self.undocumented = self.undocumented.routes(endpoint);
        self
    }

    /// The endpoint with what applies to all of them, and with its access in its description. The roles are checked before
    /// the body is read.
    fn protected(
        &self,
        access: Access,
        endpoint: UtoipaMethodRouter<AppState>,
    ) -> UtoipaMethodRouter<AppState> {
        let (schemas, mut paths, handler) = endpoint.map(|handler| {
            self.middleware.protect(access, handler.route_layer(DefaultBodyLimit::max(BODY_LIMIT)))
        });
        for operation in paths.paths.values_mut().flat_map(operations) {
            openapi::state_access(operation, access);
        }
        (schemas, paths, handler)
    }

    /// The routes, and the OpenAPI document of those that it describes.
    pub(super) fn into_parts(self) -> (Router<AppState>, OpenApi) {
        let (documented, document) = self.documented.split_for_parts();
        (documented.merge(Router::from(self.undocumented)), document)
    }

    /// The descriptions of all endpoints: of those in the OpenAPI document, and of the others.
    #[cfg(test)]
    pub(super) fn descriptions(&self) -> [&OpenApi; 2] {
        [self.documented.get_openapi(), self.undocumented.get_openapi()]
    }
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
