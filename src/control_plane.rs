//! Calls to the control plane, through Envoy's cluster for it.

use std::time::Duration;

use crate::abi::{self, Status};
use crate::config::Config;
use crate::headers::serialized;
use crate::host;

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
        (":method", method.as_bytes()),
        (":path", path.as_bytes()),
        (":authority", config.authority.as_bytes()),
        ("authorization", config.authorization.as_bytes()),
    ];
    headers.extend(more.iter().map(|(name, value)| (*name, value.as_bytes())));
    let (headers, no_trailers) = (serialized(&headers), serialized(&[]));
    let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    match abi::http_call(&config.cluster, &headers, body.unwrap_or_default(), &no_trailers, timeout) {
        Ok(id) => Ok(CallId(id)),
        Err(Status::BadArgument) => Err(NotSent::UnknownCluster),
        Err(_) => Err(NotSent::Unreachable),
    }
}

/// The answer of a call, in its callback. `None` for a reset, a time-out, or a body over Envoy's limit: the host reports all
/// of these with no headers at all.
pub(crate) fn answer(headers: usize, body_size: usize) -> Option<Answer> {
    if headers == 0 {
        return None;
    }
    Some(Answer {
        status: host::answer_status()?,
        media_type: host::answer_header("content-type").unwrap_or_default(),
        body: host::answer_body(body_size),
    })
}
