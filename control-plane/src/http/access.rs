//! Who may call what. Every endpoint is declared with the roles that it takes; there is no other way to add one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;

use super::pages::gate::{Manner, PageGate};
use super::problem::Problem;
use super::refusals::{Reason, Refusals};
use super::state::AppState;
use crate::service::app::App;
use crate::storage::StorageError;
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_domain::token::{Role, Token};
use omniflow_net::admission::Connection;

/// The most bytes of a request's body, unless an endpoint states another limit.
const BODY_LIMIT: usize = 256 * 1024;

/// Who an endpoint lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody. Such an endpoint tells nothing about keys.
    Public,
    /// Bearers of a token with one of these roles.
    Roles(&'static [Role]),
}

/// Reads of keys, policy, gateways and the audit log.
pub(super) const READ: Access = Access::Roles(&[Role::Owner, Role::Admin, Role::Auditor]);
/// Changes of keys and of the policy.
pub(super) const WRITE: Access = Access::Roles(&[Role::Owner, Role::Admin]);
/// What callers have sent. Whoever issues keys does not read it.
pub(super) const AUDIT: Access = Access::Roles(&[Role::Auditor]);
/// All about tokens.
pub(super) const OWNER: Access = Access::Roles(&[Role::Owner]);
/// The filter's side.
pub(super) const GATEWAY: Access = Access::Roles(&[Role::Gateway]);

/// One row of the table of endpoints.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Its method.
    pub(super) method: Method,
    /// Its path template.
    pub(super) path: &'static str,
    /// Who it lets in.
    pub(super) access: Access,
}

/// The table of endpoints while it grows.
pub(super) struct Endpoints {
    app: Arc<App>,
    refusals: Arc<Refusals>,
    router: Router<AppState>,
    table: Vec<Endpoint>,
    pages: Vec<Endpoint>,
}

/// The principal of a request, for handlers: whoever holds the request's token, as the endpoint's roles let it in.
pub(super) struct Authenticated(pub(super) Principal);

// === impl Endpoints ===

impl Endpoints {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app, refusals: Arc::default(), router: Router::new(), table: Vec::new(), pages: Vec::new() }
    }

    pub(super) fn get<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(Method::GET, path, access, BODY_LIMIT, handler)
    }

    pub(super) fn post<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(Method::POST, path, access, BODY_LIMIT, handler)
    }

    /// Like [`Self::post`], for requests of up to `limit` bytes.
    pub(super) fn post_large<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        limit: usize,
        handler: H,
    ) -> Self {
        self.add(Method::POST, path, access, limit, handler)
    }

    pub(super) fn patch<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(Method::PATCH, path, access, BODY_LIMIT, handler)
    }

    /// `PUT`, for requests of up to `limit` bytes.
    pub(super) fn put_large<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        limit: usize,
        handler: H,
    ) -> Self {
        self.add(Method::PUT, path, access, limit, handler)
    }

    pub(super) fn delete<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(Method::DELETE, path, access, BODY_LIMIT, handler)
    }

    /// A page, for browsers that are signed in with a token that `access` lets in.
    pub(super) fn page<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add_page(MethodFilter::GET, Method::GET, path, access, Manner::Page, handler)
    }

    /// What a page asks for by itself, without its reader doing anything: it does not keep a session from ending.
    pub(super) fn live<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add_page(MethodFilter::GET, Method::GET, path, access, Manner::Live, handler)
    }

    /// What a form of a page sends. The handler is called with the form only if it came from a page of this session.
    pub(super) fn form<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add_page(MethodFilter::POST, Method::POST, path, access, Manner::Form, handler)
    }

    fn add_page<H: Handler<T, AppState>, T: 'static>(
        mut self,
        filter: MethodFilter,
        method: Method,
        path: &'static str,
        access: Access,
        manner: Manner,
        handler: H,
    ) -> Self {
        self.pages.push(Endpoint { method, path, access });
        let gate = PageGate::new(Arc::clone(&self.app), access, manner);
        let route = on(filter, handler).route_layer(middleware::from_fn_with_state(gate, PageGate::pass));
        self.router = self.router.route(path, route);
        self
    }

    fn add<H: Handler<T, AppState>, T: 'static>(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        limit: usize,
        handler: H,
    ) -> Self {
        let filter = match method {
            Method::POST => MethodFilter::POST,
            Method::PUT => MethodFilter::PUT,
            Method::PATCH => MethodFilter::PATCH,
            Method::DELETE => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        self.table.push(Endpoint { method, path, access });
        let route = on(filter, handler).route_layer(DefaultBodyLimit::max(limit));
        let route = match access {
            Access::Public => route,
            Access::Roles(roles) => route.route_layer(middleware::from_fn_with_state(
                Gate { app: Arc::clone(&self.app), refusals: Arc::clone(&self.refusals), roles },
                Gate::pass,
            )),
        };
        self.router = self.router.route(path, route);
        self
    }

    /// The routes.
    pub(super) fn router(self) -> Router<AppState> {
        self.router
    }

    /// What the API has, and who may call it.
    pub(super) fn table(&self) -> &[Endpoint] {
        &self.table
    }

    /// The pages and their forms, and who may see and send them.
    #[cfg(test)]
    pub(super) fn pages(&self) -> &[Endpoint] {
        &self.pages
    }
}

// === impl Gate ===

#[derive(Clone)]
struct Gate {
    app: Arc<App>,
    refusals: Arc<Refusals>,
    roles: &'static [Role],
}

impl Gate {
    async fn pass(State(gate): State<Self>, mut request: Request, next: Next) -> Result<Response, Problem> {
        let token = gate.admit(request.headers(), request.extensions()).await?;
        Connection::trust(request.extensions());
        request.extensions_mut().insert(Principal::from(token));
        Ok(next.run(request).await)
    }

    /// The request's token, if it is valid and has one of the roles.
    async fn admit(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Token, Error> {
        let now = self.app.now();
        let of_gateways = self.roles.contains(&Role::Gateway);
        let refused = |reason| {
            if of_gateways {
                self.refusals.note(reason, extensions, now);
            }
        };
        // Without one, nothing was tried.
        let Some(digest) = bearer_digest(headers) else {
            refused(Reason::NoToken);
            return Err(Error::unauthenticated());
        };
        let token = valid_token(&self.app, digest, now).await?.map_err(|reason| {
            refused(reason);
            self.app.throttle.refuse(reason, extensions, of_gateways)
        })?;
        if !self.roles.contains(&token.role) {
            refused(Reason::WrongRole);
            let wanted: Vec<&str> = self.roles.iter().map(|role| role.as_str()).collect();
            return Err(Error::forbidden(format!(
                "This needs a token with the role {}; yours is {}.",
                wanted.join(" or "),
                token.role
            )));
        }
        Ok(token)
    }
}

/// The token with this digest, or why there is none that is valid. What is answered then is up to
/// [`Throttle`](super::throttle::Throttle).
pub(super) async fn valid_token(
    app: &App,
    digest: Digest,
    now: UnixMillis,
) -> Result<Result<Token, Reason>, StorageError> {
    let found = match app.known_tokens.may_have(&digest) {
        true => app.storage.main.token_by_digest(digest).await?,
        false => None,
    };
    Ok(match found {
        None => Err(Reason::UnknownToken),
        Some(token) if !token.is_valid(now) => Err(Reason::ExpiredToken),
        Some(token) => Ok(token),
    })
}

/// The digest of the one bearer token. More than one header is none: which of them counts is not ours to guess.
fn bearer_digest(headers: &HeaderMap) -> Option<Digest> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then(|| Digest::of(token))
}

// === impl Authenticated ===

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Only the gate puts it there. An endpoint that is open by mistake fails here.
        let principal = parts.extensions.get::<Principal>().cloned();
        principal.map(Self).ok_or_else(|| Error::internal().into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::body::Body;
    use axum::http::StatusCode;
    use serde_json::json;
    use tower::ServiceExt;

    use super::*;
    use crate::http::testing::{Plane, request};

    fn is_public(path: &str) -> bool {
        [
            "/healthz",
            "/readyz",
            "/metrics",
            "/openapi.json",
            "/docs",
            "/docs/",
            "/docs/{*file}",
            "/assets/{file}",
        ]
        .contains(&path)
    }

    #[tokio::test]
    async fn every_endpoint_lets_in_the_declared_roles_and_nobody_else() {
        let plane = Plane::new().await;
        let mut tokens = vec![(Role::Owner, plane.owner.clone())];
        for role in [Role::Admin, Role::Auditor, Role::Gateway] {
            tokens.push((role, plane.token(role.as_str()).await));
        }
        let endpoints = crate::http::endpoints(Arc::clone(&plane.app));
        assert!(endpoints.table().len() >= 18);
        for Endpoint { method, path, access } in endpoints.table().iter().cloned() {
            let filled = path.replace("{id}", "nobody").replace("{version}", "1").replace("{n}", "0");
            let Access::Roles(roles) = access else {
                assert!(is_public(path), "{path} is open to everybody");
                continue;
            };
            for (role, token) in &tokens {
                let request = request(method.clone(), &filled, token, Some(json!({})));
                // A stream has no end; its head says all.
                if path == "/v1/audit/stream" && roles.contains(role) {
                    let answer = plane.router.clone().oneshot(request).await.unwrap();
                    assert_eq!(answer.status(), StatusCode::OK, "{path} as {role}");
                    continue;
                }
                let answer = plane.call(request).await;
                let refused = answer.status == StatusCode::FORBIDDEN;
                assert_eq!(refused, !roles.contains(role), "{method} {path} as {role}: {}", answer.status);
                assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} as {role}");
                assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path} as {role}");
                if refused {
                    assert_eq!(answer.problem().1, "forbidden");
                }
            }
            let without = Request::builder().method(method.clone()).uri(&filled).body(Body::empty()).unwrap();
            assert_eq!(plane.call(without).await.problem().1, "unauthenticated", "{method} {path}");
        }
    }

    #[tokio::test]
    async fn the_roles_are_those_of_the_contract() {
        let plane = Plane::new().await;
        let endpoints = crate::http::endpoints(Arc::clone(&plane.app));
        for Endpoint { method, path, access } in endpoints.table().iter().cloned() {
            let expected = match path {
                path if is_public(path) => Access::Public,
                path if path.starts_with("/gateway/") => GATEWAY,
                path if path.starts_with("/v1/tokens") => OWNER,
                path if path.starts_with("/v1/keys") && method != Method::GET => WRITE,
                "/v1/policy" if method != Method::GET => WRITE,
                "/v1/policy/rollback" | "/v1/leaks" => WRITE,
                "/v1/audit/{id}/payload" => AUDIT,
                "/v1/audit/payload-key/rotate" => OWNER,
                _ => READ,
            };
            assert_eq!(access, expected, "{method} {path}");
        }
    }

    /// The rows of the table in `docs/API.md`: a call, or several with the same roles.
    fn documented() -> BTreeMap<(String, String), String> {
        let text = include_str!("../../../docs/API.md");
        let mut rows = BTreeMap::new();
        for line in text.lines().skip_while(|line| *line != "| call | roles | what |").skip(2) {
            let Some(row) = line.strip_prefix("| ") else { break };
            let cells: Vec<&str> = row.split(" | ").collect();
            for call in cells[0].split('`').filter(|part| part.contains(" /")) {
                let (method, path) = call.split_once(' ').unwrap();
                rows.insert((path.to_owned(), method.to_owned()), cells[1].to_owned());
            }
        }
        rows
    }

    #[tokio::test]
    async fn the_documentation_names_every_call_with_the_roles_that_it_takes() {
        let plane = Plane::new().await;
        let endpoints = crate::http::endpoints(Arc::clone(&plane.app));
        let table: BTreeMap<(String, String), String> = endpoints
            .table()
            .iter()
            // What belongs to pages.
            .filter(|endpoint| !["/docs/", "/assets/"].iter().any(|other| endpoint.path.starts_with(other)))
            .map(|endpoint| {
                let roles = match endpoint.access {
                    Access::Public => "everybody".to_owned(),
                    Access::Roles(roles) => {
                        roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
                    }
                };
                ((endpoint.path.to_owned(), endpoint.method.to_string()), roles)
            })
            .collect();
        assert_eq!(documented(), table);
    }

    #[tokio::test]
    async fn one_whole_token_in_one_header_and_nothing_else_is_taken() {
        let plane = Plane::new().await;
        let owner = &plane.owner;
        let call = async |headers: &[(&str, String)]| {
            let mut request = Request::get("/v1/policy");
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            plane.call(request.body(Body::empty()).unwrap()).await
        };
        let right = ("authorization", format!("Bearer {owner}"));
        assert_eq!(call(std::slice::from_ref(&right)).await.status, StatusCode::OK);
        assert_eq!(call(&[("authorization", format!("bearer {owner}"))]).await.status, StatusCode::OK);
        for wrong in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            format!("Basic {owner}"),
            owner.clone(),
            format!("Bearer  {owner}"),
            format!("Bearer {owner}x"),
            format!("Bearer {}", &owner[..owner.len() - 1]),
            format!("Bearer {}", owner.to_uppercase()),
            format!("Bearer {owner}, Bearer {owner}"),
            format!("Bearer {}", Digest::of(owner.as_bytes()).to_hex()),
        ] {
            let answer = call(&[("authorization", wrong.clone())]).await;
            assert_eq!(answer.problem().1, "unauthenticated", "{wrong}");
            assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"omniflow\"");
            assert!(!String::from_utf8_lossy(&answer.body).contains(owner.as_str()));
        }
        assert_eq!(call(&[right.clone(), right.clone()]).await.problem().1, "unauthenticated");
        assert_eq!(call(&[("x-api-key", owner.clone())]).await.problem().1, "unauthenticated");
    }

    #[tokio::test]
    async fn an_endpoint_without_a_gate_fails_closed() {
        let plane = Plane::new().await;
        let open: Router<()> =
            Router::new().route("/", axum::routing::get(async |_: Authenticated| "let in"));
        let answer = crate::http::testing::send(open, request(Method::GET, "/", &plane.owner, None)).await;
        assert_eq!(answer.problem().0, 500);
    }

    #[tokio::test]
    async fn other_paths_methods_and_long_bodies_are_problems_too() {
        let plane = Plane::new().await;
        assert_eq!(plane.get("/nothing").await.problem().1, "not_found");
        assert_eq!(plane.delete("/v1/policy").await.problem().1, "method_not_allowed");
        let long = json!({"name": "x".repeat(BODY_LIMIT)});
        assert_eq!(plane.post("/v1/keys", long).await.problem().1, "body_too_large");
        let answer = plane.get("/v1/policy").await;
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    }
}
