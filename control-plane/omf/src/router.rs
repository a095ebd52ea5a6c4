//! The API and the console behind one router, with what holds for every response.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use omniflow_api::Problem;
use omniflow_console::{Cacheable, Console};
use omniflow_domain::error::{Error, ErrorCode};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::classify::ServerErrorsFailureClass;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::composition::ControlPlane;
use crate::metrics;

/// How long a request's body may pause.
const BODY_PAUSE: Duration = Duration::from_secs(15);

impl ControlPlane {
    /// The routes of the API and of the console.
    pub fn router(&self) -> Router {
        let (console, metrics) = (Arc::clone(&self.console), self.metrics.http.clone());
        omniflow_api::router(Arc::clone(&self.api))
            .merge(omniflow_console::router(Arc::clone(&console)))
            .fallback(fallback(Arc::clone(&console), Error::not_found("Nothing has this path.")))
            .method_not_allowed_fallback(fallback(
                console,
                Error::new(ErrorCode::MethodNotAllowed, "This path does not take this method."),
            ))
            .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
            .layer(SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, cache_control))
            .layer(SetResponseHeaderLayer::overriding(
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ))
            .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| answer_panic(&panic)))
            .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(log_failure))
            .layer(middleware::from_fn_with_state(metrics, metrics::measure))
    }
}

/// Responses hold keys, tokens and addresses: no cache may keep them, whatever a handler has set. The console's own files are
/// the exception.
fn cache_control(response: &Response) -> Option<HeaderValue> {
    let is_cacheable = response.extensions().get::<Cacheable>().is_some();
    (!is_cacheable).then_some(HeaderValue::from_static("no-store"))
}

/// Answers what no route does: browsers get a page, programs a problem document.
fn fallback(
    console: Arc<Console>,
    error: Error,
) -> impl FnOnce(Request) -> BoxFuture<'static, Response> + Clone {
    move |request| {
        Box::pin(async move {
            if omniflow_console::wants_page(&request) {
                omniflow_console::error_response(&console, request, error).await
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

/// A 503 is no failure: the client came while the image is being built, and gets a Retry-After.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_store_overrides_what_a_handler_has_set() {
        let mut response = ([(header::CACHE_CONTROL, "public, max-age=60")], "secret").into_response();
        assert_eq!(cache_control(&response), Some(HeaderValue::from_static("no-store")));
        response.extensions_mut().insert(Cacheable);
        assert_eq!(cache_control(&response), None);
    }
}
