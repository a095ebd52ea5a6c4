//! Host calls: the SDK's (`proxy_wasm::hostcalls`), and the few of [`raw`]. No other module calls the host.
//!
//! The SDK's wrappers panic on a status that they do not list. docs/internals/envoy.md lists each of those panics and why no input
//! reaches it. Read that page before adding a call.

#[cfg(test)]
mod fake;
pub(crate) mod header_map;
mod raw;

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, Status};
pub(crate) use proxy_wasm::types::{Bytes, GrpcStatusCode, LogLevel, MetricType};

use self::header_map::HeaderMap;
use crate::clock;

#[cfg(test)]
pub(crate) use self::fake::{log, set_shared_data, shared_data};
#[cfg(target_os = "wasi")]
pub(crate) use self::raw::monotonic_nanos;

/// The id of a context: of a request, or of the root context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContextId(pub(crate) u32);

/// Why a call could not be dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DispatchError {
    /// Envoy has no cluster of this name.
    UnknownCluster,
    /// No host of the cluster can be reached.
    Unreachable,
}

/// 64 random bits that identify a VM or an Envoy process.
#[expect(clippy::disallowed_methods, reason = "the host is the filter's source of randomness")]
pub(crate) fn random_u64() -> u64 {
    // Without a source of randomness, the clock still yields distinct identifiers. They are not used for security.
    getrandom::u64().unwrap_or_else(|_| clock::monotonic().0)
}

/// Writes to Envoy's log, component `wasm`.
#[cfg(not(test))]
pub(crate) fn log(level: LogLevel, message: &str) {
    let _ = hostcalls::log(level, &format!("omniflow: {message}"));
}

/// Sets the period of the tick. Zero stops it.
pub(crate) fn set_tick_period(period: Duration) {
    let _ = hostcalls::set_tick_period(period);
}

/// Completes a root context whose `on_done` returned `false`. Call it only once: the host refuses a second call, and
/// the SDK then panics.
pub(crate) fn done() {
    let _ = hostcalls::done();
}

// === shared data and queues ===

/// An entry of shared data and its number for a compare-and-swap.
#[cfg(not(test))]
pub(crate) fn shared_data(name: &str) -> (Option<Bytes>, Option<u32>) {
    hostcalls::get_shared_data(name).unwrap_or_default()
}

/// Writes an entry of shared data if its number is still this one. Returns whether it was written.
#[cfg(not(test))]
pub(crate) fn set_shared_data(name: &str, value: &[u8], cas: u32) -> bool {
    hostcalls::set_shared_data(name, Some(value), Some(cas)).is_ok()
}

/// Registers a queue. This VM is called when a message arrives, unless another registers the same name later.
pub(crate) fn register_queue(name: &str) -> Option<u32> {
    hostcalls::register_shared_queue(name).ok()
}

/// Appends a message to a queue. A queue that no longer exists drops it.
pub(crate) fn enqueue(queue: u32, message: &[u8]) {
    let _ = hostcalls::enqueue_shared_queue(queue, Some(message));
}

/// Takes the first message of a queue.
pub(crate) fn dequeue(queue: u32) -> Option<Bytes> {
    hostcalls::dequeue_shared_queue(queue).ok().flatten()
}

// === configuration and properties ===

/// The plugin's configuration. Available only in the configure callback.
pub(crate) fn plugin_configuration() -> Bytes {
    buffer(BufferType::PluginConfiguration, usize::MAX)
}

/// A property of the stream, the node or the plugin. `path` has a zero byte between its parts.
pub(crate) fn property(path: &str) -> Option<Bytes> {
    Some(raw::property(path)).filter(|value| !value.is_empty())
}

/// Sets filter state `wasm.<name>`, for access logs and for the guard after this filter.
pub(crate) fn set_filter_state(name: &str, value: &[u8]) {
    raw::set_property(name, value);
}

/// Declares filter state that all streams of one request share: also those that Envoy starts when it redirects the request.
/// Only in callbacks of the root context. The state is set by [`set_filter_state`].
pub(crate) fn declare_request_state(name: &str) {
    /// The tag of `name` in Envoy's `DeclarePropertyArguments`.
    const NAME: u8 = 0x0a;
    /// Its field `span`, with the value `DownstreamRequest`.
    const SPAN: [u8; 2] = [0x28, 1];
    let Ok(length) = u8::try_from(name.len()) else { return };
    let arguments = [&[NAME, length][..], name.as_bytes(), &SPAN].concat();
    let _ = hostcalls::call_foreign_function("declare_property", Some(&arguments));
}

// === the request and its response ===

/// All request headers. Available only in the request headers callback, like the three functions below.
pub(crate) fn request_headers() -> HeaderMap {
    HeaderMap::new(raw::header_map(MapType::HttpRequestHeaders))
}

/// Adds a request header. The request must not have a header of this name, or no longer have one.
pub(crate) fn add_request_header(name: &str, value: &[u8]) {
    raw::add_header(MapType::HttpRequestHeaders, name.as_bytes(), value);
}

/// Sets a request header, replacing all headers of its name.
pub(crate) fn replace_request_header(name: &str, value: &[u8]) {
    raw::replace_header(MapType::HttpRequestHeaders, name.as_bytes(), value);
}

/// Removes all request headers of a name.
pub(crate) fn remove_request_header(name: &[u8]) {
    raw::remove_header(MapType::HttpRequestHeaders, name);
}

/// A chunk of the request body. Available only in the request body callback.
pub(crate) fn request_body(size: usize) -> Bytes {
    buffer(BufferType::HttpRequestBody, size)
}

/// All request trailers. Available only in the request trailers callback, like the function below.
pub(crate) fn request_trailers() -> HeaderMap {
    HeaderMap::new(raw::header_map(MapType::HttpRequestTrailers))
}

/// Removes all request trailers of a name.
pub(crate) fn remove_request_trailer(name: &[u8]) {
    raw::remove_header(MapType::HttpRequestTrailers, name);
}

/// All response trailers. Available only in the response trailers callback.
pub(crate) fn response_trailers() -> HeaderMap {
    HeaderMap::new(raw::header_map(MapType::HttpResponseTrailers))
}

/// All response headers. Available only in the response headers callback, like the two functions below.
pub(crate) fn response_headers() -> HeaderMap {
    HeaderMap::new(raw::header_map(MapType::HttpResponseHeaders))
}

/// Adds a response header. The response must not have a header of this name.
pub(crate) fn add_response_header(name: &str, value: &[u8]) {
    raw::add_header(MapType::HttpResponseHeaders, name.as_bytes(), value);
}

/// Sets a response header, replacing all headers of its name.
pub(crate) fn replace_response_header(name: &str, value: &[u8]) {
    raw::replace_header(MapType::HttpResponseHeaders, name.as_bytes(), value);
}

/// Sends a local reply over HTTP. Call it at most once per request: the host refuses a second reply, and the SDK then
/// panics.
pub(crate) fn send_http_response(status: u16, headers: Vec<(&str, &str)>, body: &[u8]) {
    let _ = hostcalls::send_http_response(u32::from(status), headers, Some(body));
}

/// Resets the stream of a request, whether or not its response has begun.
pub(crate) fn reset_stream() {
    let _ = hostcalls::reset_http_request();
}

/// Makes host calls on behalf of a request. Only in callbacks of the root context, whose id is `root`. Envoy performs local
/// replies and resets when the callback has returned. Does nothing if the request has ended.
pub(crate) fn on_behalf_of(request: ContextId, root: ContextId, calls: impl FnOnce()) {
    if hostcalls::set_effective_context(request.0).is_ok() {
        calls();
        let _ = hostcalls::set_effective_context(root.0);
    }
}

/// Sends a local reply over gRPC. Call it at most once per request, as above.
pub(crate) fn send_grpc_response(status: GrpcStatusCode, message: &str, metadata: Vec<(&str, &[u8])>) {
    let _ = hostcalls::send_grpc_response(status, Some(message), metadata);
}

// === outgoing calls ===

/// Dispatches an HTTP call and returns its token. Use it only in callbacks of the root context: a call made by a
/// request is cancelled with the request.
pub(crate) fn dispatch_http_call(
    cluster: &str,
    headers: Vec<(&str, &str)>,
    body: &[u8],
    timeout: Duration,
) -> Result<u32, DispatchError> {
    hostcalls::dispatch_http_call(cluster, headers, Some(body), Vec::new(), timeout).map_err(|status| {
        match status {
            Status::BadArgument => DispatchError::UnknownCluster,
            _ => DispatchError::Unreachable,
        }
    })
}

/// The headers of the response to a call. Available only in the callback of that response, like the function below.
pub(crate) fn call_response_headers() -> HeaderMap {
    HeaderMap::new(raw::header_map(MapType::HttpCallResponseHeaders))
}

/// The body of the response to a call.
pub(crate) fn call_response_body(size: usize) -> Bytes {
    buffer(BufferType::HttpCallResponseBody, size)
}

fn buffer(buffer: BufferType, size: usize) -> Bytes {
    hostcalls::get_buffer(buffer, 0, size).ok().flatten().unwrap_or_default()
}

// === metrics ===

/// Defines a metric, or finds the one of this name.
pub(crate) fn define_metric(kind: MetricType, name: &str) -> Option<u32> {
    hostcalls::define_metric(kind, name).ok()
}

/// Adds to a counter. `by` must be positive.
pub(crate) fn increment_metric(metric: u32, by: i64) {
    let _ = hostcalls::increment_metric(metric, by);
}

/// Sets a gauge.
pub(crate) fn record_metric(metric: u32, value: u64) {
    let _ = hostcalls::record_metric(metric, value);
}
