//! The router of the API and the console, with the layers that apply to every response.

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
use omniflow_api_types::problem_code::HttpErrorCode;
use omniflow_api_types::request_error::{HttpError, RequestError};
use omniflow_console::{Cacheable, Console};
use omniflow_domain::error::Error;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::classify::ServerErrorsFailureClass;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::composition::ControlPlane;
use crate::metrics;

/// Maximum pause in a request body.
const BODY_PAUSE: Duration = Duration::from_secs(15);

impl ControlPlane {
    /// The routes of the API and of the console.
    pub fn router(&self) -> Router {
        let (console, metrics) = (Arc::clone(&self.console), self.metrics.http.clone());
        omniflow_api::router(Arc::clone(&self.api))
            .merge(omniflow_console::router(Arc::clone(&console)))
            .fallback(fallback(
                Arc::clone(&console),
                Error::not_found("There is no endpoint at this path.").into(),
            ))
            .method_not_allowed_fallback(fallback(
                console,
                HttpError::new(
                    HttpErrorCode::MethodNotAllowed,
                    "This path does not support this method. See the Allow header.",
                )
                .into(),
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

/// Forbids caching, whatever a handler has set, because responses contain keys, tokens and addresses. Static files of the
/// console are the exception.
fn cache_control(response: &Response) -> Option<HeaderValue> {
    let is_cacheable = response.extensions().get::<Cacheable>().is_some();
    (!is_cacheable).then_some(HeaderValue::from_static("no-store"))
}

/// Responds to requests that match no route: with a page for browsers, and a problem document for programs.
fn fallback(
    console: Arc<Console>,
    error: RequestError,
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

/// The span names the route and not the path, which may contain anything.
fn span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
    tracing::debug_span!("request", method = %request.method(), route)
}

/// Logs failures. A 503 is none: the image is still being built, and the response has a Retry-After.
fn log_failure(failure: ServerErrorsFailureClass, latency: Duration, _: &Span) {
    match failure {
        ServerErrorsFailureClass::StatusCode(StatusCode::SERVICE_UNAVAILABLE) => {
            tracing::debug!(?latency, "not ready");
        }
        failure => tracing::error!(%failure, ?latency, "request failed"),
    }
}

fn answer_panic(_: &Box<dyn Any + Send>) -> Response {
    tracing::error!("handler panicked");
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
