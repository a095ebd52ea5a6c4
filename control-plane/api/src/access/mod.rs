//! Authentication of requests, and the check that an endpoint admits the role of the token.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::MethodRouter;
use omniflow_policy::digest::Digest;

use super::problem::Problem;
use super::state::{Api, AppState};
pub(super) use omniflow_domain::access::{AUDIT, Access, GATEWAY, OWNER, READ, WRITE};
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_domain::token::{Role, Token};
use omniflow_net::connection_table::Connection;
use omniflow_service::authentication::{Rejection, RejectionLog};

/// Admits requests to endpoints. The copies of one middleware share their log of rejections.
#[derive(Clone)]
pub(super) struct TokenMiddleware {
    app: Arc<Api>,
    rejections: Arc<RejectionLog>,
}

/// The principal of a request, for handlers: the holder of the token, whose role the endpoint admits.
pub(super) struct Authenticated(pub(super) Principal);

/// The token of a gateway, for handlers of the gateway protocol.
#[derive(Clone)]
pub(super) struct GatewayToken(pub(super) Arc<Token>);

// === impl TokenMiddleware ===

impl TokenMiddleware {
    pub(super) fn new(app: Arc<Api>) -> Self {
        Self { app, rejections: Arc::default() }
    }

    /// The handler, reached only by the principals that `access` admits.
    pub(super) fn protect(&self, access: Access, handler: MethodRouter<AppState>) -> MethodRouter<AppState> {
        match access {
            Access::Public => handler,
            Access::Roles(_) => {
                handler.route_layer(middleware::from_fn_with_state((self.clone(), access), Self::pass))
            }
        }
    }

    async fn pass(
        State((middleware, access)): State<(Self, Access)>,
        mut request: Request,
        next: Next,
    ) -> Result<Response, Problem> {
        let token = middleware.admit(access, request.headers(), request.extensions()).await?;
        Connection::trust(request.extensions());
        if token.role == Role::Gateway {
            request.extensions_mut().insert(GatewayToken(Arc::new(token.clone())));
        }
        request.extensions_mut().insert(Principal::from(token));
        Ok(next.run(request).await)
    }

    /// The request's token, if it is valid and its role is admitted.
    async fn admit(
        &self,
        access: Access,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Token, Error> {
        let of_gateways = access.admits(Role::Gateway);
        let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        let log = |rejection| {
            if of_gateways {
                self.rejections.record(rejection, peer, self.app.clock.now());
            }
        };
        // A request without a token is not a failed attempt.
        let Some(digest) = bearer_digest(headers) else {
            log(Rejection::NoToken);
            return Err(Error::unauthenticated());
        };
        let token = self.app.authentication.authenticate(digest).await?.map_err(|rejection| {
            log(rejection);
            if of_gateways {
                self.app.gateway_protocol.token_rejected(digest, rejection);
            }
            self.app.authentication.reject(rejection, peer.map(|peer| peer.ip()), of_gateways)
        })?;
        access.check(token.role).inspect_err(|_| log(Rejection::WrongRole))?;
        Ok(token)
    }
}

/// The digest of the bearer token. `None` if there is more than one `Authorization` header: guessing which one counts
/// would be unsafe.
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
        // Only the middleware inserts it. An endpoint that lacks the middleware by mistake fails here.
        let principal = parts.extensions.get::<Principal>().cloned();
        principal.map(Self).ok_or_else(|| Error::internal().into())
    }
}

// === impl GatewayToken ===

impl<S: Sync> FromRequestParts<S> for GatewayToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::internal().into())
    }
}

#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod tests;
