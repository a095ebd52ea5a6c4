//! HTTP: the routes of the API and of the console, put together.

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
mod pages;
mod params;
mod policy;
mod precondition;
mod problem;
mod query;
mod state;
mod tokens;

#[cfg(test)]
mod problems;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::classify::ServerErrorsFailureClass;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

use self::access::Endpoints;
pub(crate) use self::pages::enforcement_watch::EnforcementWatch;
pub(crate) use self::pages::state::{ConsoleState, EffectiveSetting};
use self::problem::Problem;
use self::state::AppState;
use crate::service::app::App;
use omniflow_domain::error::{Error, ErrorCode};

/// How long a request's body may pause.
const BODY_PAUSE: Duration = Duration::from_secs(15);

/// The routes of the API and of the console.
pub(crate) fn router(app: Arc<App>) -> Router {
    let api = endpoints(Arc::clone(&app)).router().with_state(AppState(Arc::clone(&app)));
    api.merge(pages::router(Arc::clone(&app)))
        .fallback(fallback(Arc::clone(&app), Error::not_found("Nothing has this path.")))
        .method_not_allowed_fallback(fallback(
            app,
            Error::new(ErrorCode::MethodNotAllowed, "This path does not take this method."),
        ))
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(SetResponseHeaderLayer::overriding(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| answer_panic(&panic)))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(log_failure))
}

/// The endpoints of the API.
fn endpoints(app: Arc<App>) -> Endpoints {
    let mut endpoints = Endpoints::new(app);
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

/// Answers what no route does: browsers get a page, programs a problem document.
fn fallback(app: Arc<App>, error: Error) -> impl FnOnce(Request) -> BoxFuture<'static, Response> + Clone {
    move |request| {
        Box::pin(async move {
            if pages::wants_page(&request) {
                pages::error_response(&app, request, error).await
            } else {
                Problem::from(error).into_response()
            }
        })
    }
}

/// The log names the route, never the path as it was sent, which may hold anything.
fn span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
    tracing::debug_span!("request", method = %request.method(), route)
}

/// A 503 is no failure: the caller came while the image is being built, and was told to come back.
fn log_failure(failure: ServerErrorsFailureClass, latency: Duration, _: &Span) {
    match failure {
        ServerErrorsFailureClass::StatusCode(StatusCode::SERVICE_UNAVAILABLE) => {
            tracing::debug!(?latency, "not ready yet");
        }
        failure => tracing::error!(%failure, ?latency, "a call failed"),
    }
}

fn answer_panic(_: &Box<dyn Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    Problem::from(Error::internal()).into_response()
}
