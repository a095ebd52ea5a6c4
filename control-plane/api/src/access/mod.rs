//! The API's endpoints and the roles that each admits. Every endpoint is declared with its roles; there is no other way to
//! add one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use omniflow_policy::digest::Digest;

use super::problem::Problem;
use super::state::AppState;
use crate::state::Api;
pub(super) use omniflow_domain::access::{AUDIT, Access, GATEWAY, OWNER, READ, WRITE};
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_domain::token::{Role, Token};
use omniflow_net::admission::Connection;
use omniflow_service::authentication::{Rejection, RejectionLog};

/// The most bytes of a request's body, unless an endpoint states another limit.
const BODY_LIMIT: usize = 256 * 1024;

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
    app: Arc<Api>,
    rejections: Arc<RejectionLog>,
    router: Router<AppState>,
    table: Vec<Endpoint>,
}

/// The principal of a request, for handlers: whoever holds the request's token, as the endpoint's roles let it in.
pub(super) struct Authenticated(pub(super) Principal);

// === impl Endpoints ===

impl Endpoints {
    pub(super) fn new(app: Arc<Api>) -> Self {
        Self { app, rejections: Arc::default(), router: Router::new(), table: Vec::new() }
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
            Access::Roles(_) => route.route_layer(middleware::from_fn_with_state(
                Gate { app: Arc::clone(&self.app), rejections: Arc::clone(&self.rejections), access },
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
}

// === impl Gate ===

#[derive(Clone)]
struct Gate {
    app: Arc<Api>,
    rejections: Arc<RejectionLog>,
    access: Access,
}

impl Gate {
    async fn pass(State(gate): State<Self>, mut request: Request, next: Next) -> Result<Response, Problem> {
        let token = gate.admit(request.headers(), request.extensions()).await?;
        Connection::trust(request.extensions());
        request.extensions_mut().insert(Principal::from(token));
        Ok(next.run(request).await)
    }

    /// The request's token, if it is valid and its role is admitted.
    async fn admit(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Token, Error> {
        let of_gateways = self.access.admits(Role::Gateway);
        let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        let log = |rejection| {
            if of_gateways {
                self.rejections.record(rejection, peer, self.app.clock.now());
            }
        };
        // Without one, nothing was tried.
        let Some(digest) = bearer_digest(headers) else {
            log(Rejection::NoToken);
            return Err(Error::unauthenticated());
        };
        let token = self.app.authentication.authenticate(digest).await?.map_err(|rejection| {
            log(rejection);
            self.app.authentication.reject(rejection, peer.map(|peer| peer.ip()), of_gateways)
        })?;
        self.access.check(token.role).inspect_err(|_| log(Rejection::WrongRole))?;
        Ok(token)
    }
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
mod failure_tests;
#[cfg(test)]
mod tests;
