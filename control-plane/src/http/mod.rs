//! The HTTP API.

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
mod permit;
mod policy;
mod precondition;
mod problem;
mod query;
mod refusals;
mod state;
mod throttle;
mod tokens;

#[cfg(test)]
mod problems;
#[cfg(test)]
pub(crate) mod testing;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::classify::ServerErrorsFailureClass;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

use self::access::Endpoints;
pub(crate) use self::metrics::KeyCounts;
pub(crate) use self::pages::enforcement_watch::EnforcementWatch;
pub(crate) use self::pages::gate::LARGE_FORMS;
use self::problem::Problem;
use self::state::AppState;
pub(crate) use self::throttle::Throttle;
use crate::service::app::App;
use crate::service::run_to_completion;
use omniflow_domain::error::Error;

/// How long a request's body may pause.
const BODY_PAUSE: Duration = Duration::from_secs(15);

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    endpoints(Arc::clone(&app))
        .router()
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::method_not_allowed)
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
        .layer(SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, cache_control))
        .layer(SetResponseHeaderLayer::overriding(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| answer_panic(&panic)))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(log_failure))
        .with_state(AppState(app))
}

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
        pages::endpoints,
    ] {
        endpoints = add(endpoints);
    }
    endpoints
}

/// Answers hold keys, tokens and addresses: no cache may keep them. The pages' own files have nothing of that, and a
/// name that changes with their content.
fn cache_control(response: &Response) -> Option<HeaderValue> {
    let stays = response.extensions().get::<pages::assets::Unchanging>().is_some();
    Some(HeaderValue::from_static(if stays { "public, max-age=31536000, immutable" } else { "no-store" }))
}

/// The same as [`run_to_completion`], for use cases that are still in `http`.
async fn to_its_end<T, F>(change: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    run_to_completion(change).await
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
