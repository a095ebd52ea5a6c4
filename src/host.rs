//! The host's calls, made so that none of them can end the VM.
//!
//! The SDK's `String` getters panic on bytes outside UTF-8, and its header getters panic where there are no
//! headers; only the calls here are used, and each says when it may be made.

use std::time::Duration;

use proxy_wasm::hostcalls;
#[cfg(not(test))]
use proxy_wasm::types::LogLevel;
use proxy_wasm::types::{BufferType, Bytes, MapType};

use crate::clock;

/// 64 random bits, to name a run of a VM or of a process.
pub(crate) fn random_u64() -> u64 {
    // Should the host have no randomness, the clock tells VMs apart well enough: this names, it protects nothing.
    getrandom::u64().unwrap_or_else(|_| clock::monotonic().0)
}

/// Writes to Envoy's log, component `wasm`.
#[cfg(not(test))]
pub(crate) fn log(level: LogLevel, message: &str) {
    let _ = hostcalls::log(level, &format!("omniflow: {message}"));
}

/// An entry of shared data and its number for a compare-and-swap.
#[cfg(not(test))]
pub(crate) fn shared_data(name: &str) -> (Option<Bytes>, Option<u32>) {
    hostcalls::get_shared_data(name).unwrap_or_default()
}

/// Writes an entry of shared data if its number is still this one; tells whether it was written.
#[cfg(not(test))]
pub(crate) fn set_shared_data(name: &str, value: &[u8], cas: u32) -> bool {
    hostcalls::set_shared_data(name, Some(value), Some(cas)).is_ok()
}

#[cfg(test)]
pub(crate) use crate::fake_host::{log, set_shared_data, shared_data};

/// A property of the stream, the node or the plugin.
pub(crate) fn property(path: &[&str]) -> Option<Bytes> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// Sets filter state `wasm.<name>`, for access logs and for the guard behind this filter.
pub(crate) fn set_filter_state(name: &str, value: &[u8]) {
    let _ = hostcalls::set_property(vec![name], Some(value));
}

/// All request headers. May be called in the request headers callback only.
pub(crate) fn request_headers() -> Vec<(String, Bytes)> {
    hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default()
}

/// Sets a request header, or removes all of its name.
pub(crate) fn set_request_header(name: &str, value: Option<&[u8]>) {
    let _ = hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, name, value);
}

/// All request trailers. May be called in the request trailers callback only.
pub(crate) fn request_trailers() -> Vec<(String, Bytes)> {
    hostcalls::get_map_bytes(MapType::HttpRequestTrailers).unwrap_or_default()
}

/// Removes all request trailers of a name. May be called in the request trailers callback only.
pub(crate) fn remove_request_trailer(name: &str) {
    let _ = hostcalls::set_map_value_bytes(MapType::HttpRequestTrailers, name, None);
}

/// The status of the response. May be called in the response headers callback only.
pub(crate) fn response_status() -> Option<u16> {
    let status = hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, ":status").ok().flatten()?;
    core::str::from_utf8(&status).ok()?.parse().ok()
}

/// Sets a response header. May be called in the response headers callback only.
pub(crate) fn set_response_header(name: &str, value: &[u8]) {
    let _ = hostcalls::set_map_value_bytes(MapType::HttpResponseHeaders, name, Some(value));
}

/// A piece of the request body. May be called in the request body callback only.
pub(crate) fn request_body(size: usize) -> Bytes {
    hostcalls::get_buffer(BufferType::HttpRequestBody, 0, size).ok().flatten().unwrap_or_default()
}

/// How the tick is set; zero stops it.
pub(crate) fn set_tick(period: Duration) {
    let _ = hostcalls::set_tick_period(period);
}

/// The root context, which has said that it was not done, is done now. To be called once, and only then: what Envoy answers
/// otherwise ends the VM.
pub(crate) fn done() {
    let _ = hostcalls::done();
}
