//! The host's calls, made so that none of them can end the VM. Each says when it may be made.

use std::time::Duration;

#[cfg(not(test))]
use crate::abi::LogLevel;
use crate::abi::{self, BufferType, Bytes, MapType};
use crate::clock;
use crate::headers::Headers;

/// 64 random bits, to name a run of a VM or of a process.
pub(crate) fn random_u64() -> u64 {
    // Should the host have no randomness, the clock tells VMs apart well enough: this names, it protects nothing.
    getrandom::u64().unwrap_or_else(|_| clock::monotonic().0)
}

/// Writes to Envoy's log, component `wasm`.
#[cfg(not(test))]
pub(crate) fn log(level: LogLevel, message: &str) {
    abi::log(level, &format!("omniflow: {message}"));
}

/// An entry of shared data and its number for a compare-and-swap.
#[cfg(not(test))]
pub(crate) fn shared_data(name: &str) -> (Option<Bytes>, Option<u32>) {
    abi::shared_data(name.as_bytes())
}

/// Writes an entry of shared data if its number is still this one; tells whether it was written.
#[cfg(not(test))]
pub(crate) fn set_shared_data(name: &str, value: &[u8], cas: u32) -> bool {
    abi::set_shared_data(name.as_bytes(), value, cas).is_ok()
}

#[cfg(test)]
pub(crate) use crate::fake_host::{log, set_shared_data, shared_data};

/// The plugin's configuration. May be called in the configure callback only.
pub(crate) fn plugin_configuration() -> Bytes {
    abi::buffer(BufferType::PluginConfiguration, usize::MAX).unwrap_or_default()
}

/// A property of the stream, the node or the plugin, whose path has a zero byte between its parts.
pub(crate) fn property(path: &str) -> Option<Bytes> {
    abi::property(path.as_bytes())
}

/// Sets filter state `wasm.<name>`, for access logs and for the guard behind this filter.
pub(crate) fn set_filter_state(name: &str, value: &[u8]) {
    abi::set_property(name.as_bytes(), value);
}

/// All request headers. May be called in the request headers callback only.
pub(crate) fn request_headers() -> Headers {
    Headers::new(abi::header_map(MapType::RequestHeaders).unwrap_or_default())
}

/// Sets a request header in place of all of its name. May be called in the request headers callback only.
pub(crate) fn set_request_header(name: &str, value: &[u8]) {
    abi::set_header(MapType::RequestHeaders, name.as_bytes(), value);
}

/// Removes all request headers of a name. May be called in the request headers callback only.
pub(crate) fn remove_request_header(name: &[u8]) {
    abi::remove_header(MapType::RequestHeaders, name);
}

/// All request trailers. May be called in the request trailers callback only.
pub(crate) fn request_trailers() -> Headers {
    Headers::new(abi::header_map(MapType::RequestTrailers).unwrap_or_default())
}

/// Removes all request trailers of a name. May be called in the request trailers callback only.
pub(crate) fn remove_request_trailer(name: &[u8]) {
    abi::remove_header(MapType::RequestTrailers, name);
}

/// The status of the response. May be called in the response headers callback only.
pub(crate) fn response_status() -> Option<u16> {
    status(MapType::ResponseHeaders)
}

/// The status of an answer to a call of this filter. May be called in the callback of an answer only.
pub(crate) fn answer_status() -> Option<u16> {
    status(MapType::HttpCallResponseHeaders)
}

fn status(map: MapType) -> Option<u16> {
    core::str::from_utf8(&abi::header(map, b":status")?).ok()?.parse().ok()
}

/// A header of an answer to a call of this filter. May be called in the callback of an answer only.
pub(crate) fn answer_header(name: &str) -> Option<Bytes> {
    abi::header(MapType::HttpCallResponseHeaders, name.as_bytes())
}

/// The body of an answer to a call of this filter. May be called in the callback of an answer only.
pub(crate) fn answer_body(size: usize) -> Bytes {
    abi::buffer(BufferType::HttpCallResponseBody, size).unwrap_or_default()
}

/// Sets a response header in place of all of its name. May be called in the response headers callback only.
pub(crate) fn set_response_header(name: &str, value: &[u8]) {
    abi::set_header(MapType::ResponseHeaders, name.as_bytes(), value);
}

/// A piece of the request body. May be called in the request body callback only.
pub(crate) fn request_body(size: usize) -> Bytes {
    abi::buffer(BufferType::RequestBody, size).unwrap_or_default()
}

/// How the tick is set; zero stops it.
pub(crate) fn set_tick(period: Duration) {
    abi::set_tick_period(u32::try_from(period.as_millis()).unwrap_or(u32::MAX));
}

/// The root context, which has said that it was not done, is done now. To be called once, and only then: what Envoy answers
/// otherwise ends the VM.
pub(crate) fn done() {
    abi::done();
}
