//! Duration of requests by route, method and status class.
//!
//! A duration ends with the response headers, so a stream counts until it begins. Responses that are delayed on purpose, to
//! polls of gateways and to changes with `?wait=`, are excluded because the request determines how long they take.
//! Rejections of such requests are sent immediately and are measured.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use omniflow_policy::gateway::POLL_PATH;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

/// Upper bounds of the buckets, in seconds.
pub(super) const BUCKETS: [f64; 11] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];
/// The label of requests that match no route. Routes begin with a slash.
const UNMATCHED: &str = "unmatched";
/// The label of methods that no route has.
const OTHER: &str = "other";

/// The labels of a request. Each has a fixed set of values, whatever clients send.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    method: &'static str,
    status: &'static str,
}

/// Durations of requests. Clones record into the same histograms.
#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

/// Middleware that records the duration of each request.
pub(crate) async fn measure(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let mut route =
        request.extensions().get::<MatchedPath>().map_or(UNMATCHED, MatchedPath::as_str).to_owned();
    let mut method = method_label(request.method());
    let may_be_held = route == POLL_PATH || request.uri().query().is_some_and(asks_to_wait);
    let response = next.run(request).await;
    // Otherwise a client could create a series for every combination of route and method.
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        (route, method) = (UNMATCHED.to_owned(), OTHER);
    }
    if !(may_be_held && response.status().is_success()) {
        let labels = Labels { route, method, status: status_label(response.status()) };
        metrics.durations.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
    }
    response
}

/// Whether a query string has the parameter `wait`, which delays the response until the change is enforced.
fn asks_to_wait(query: &str) -> bool {
    query.split('&').any(|parameter| parameter.starts_with("wait="))
}

/// The label of a method.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => OTHER,
    }
}

/// The label of a status class.
fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

// === impl HttpMetrics ===

impl Default for HttpMetrics {
    fn default() -> Self {
        Self { durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)) }
    }
}

impl HttpMetrics {
    /// Adds the metrics to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "omf_http_request_duration",
            "Duration of HTTP requests until the response headers, excluding polls and requests with ?wait=",
            Unit::Seconds,
            self.durations.clone(),
        );
    }
}
