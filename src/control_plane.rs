//! Calls to the control plane, through Envoy's cluster for it.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, Status};

use crate::config::Config;

/// The number of a call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallId(pub(crate) u32);

/// Why a call could not even be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// Envoy does not know the cluster.
    UnknownCluster,
    /// No host of the cluster can be reached.
    Unreachable,
}

/// What the control plane has answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media_type: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Begins `POST path`.
pub(crate) fn post(
    config: &Config,
    path: &str,
    media_type: &str,
    body: &[u8],
    timeout: Duration,
) -> Result<CallId, NotSent> {
    send(config, "POST", path, &[("content-type", media_type)], Some(body), timeout)
}

/// Begins `GET path`.
pub(crate) fn get(config: &Config, path: &str, timeout: Duration) -> Result<CallId, NotSent> {
    send(config, "GET", path, &[], None, timeout)
}

fn send(
    config: &Config,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
    body: Option<&[u8]>,
    timeout: Duration,
) -> Result<CallId, NotSent> {
    let mut headers = vec![
        (":method", method),
        (":path", path),
        (":authority", config.authority.as_str()),
        ("authorization", config.authorization.as_str()),
    ];
    headers.extend_from_slice(more);
    match hostcalls::dispatch_http_call(&config.cluster, headers, body, Vec::new(), timeout) {
        Ok(id) => Ok(CallId(id)),
        Err(Status::BadArgument) => Err(NotSent::UnknownCluster),
        Err(_) => Err(NotSent::Unreachable),
    }
}

/// The answer of a call, in its callback. `None` for a reset, a time-out, or a body over Envoy's limit: the host
/// reports all of these with no headers at all, and the SDK's getters would panic on them.
pub(crate) fn answer(headers: usize, body_size: usize) -> Option<Answer> {
    if headers == 0 {
        return None;
    }
    let header = |name| hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, name).ok().flatten();
    let status = std::str::from_utf8(&header(":status")?).ok()?.parse().ok()?;
    let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size).ok().flatten();
    Some(Answer {
        status,
        media_type: header("content-type").unwrap_or_default(),
        body: body.unwrap_or_default(),
    })
}
