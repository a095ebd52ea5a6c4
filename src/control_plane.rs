//! Calls to the control plane, through Envoy's cluster for it.

use std::time::Duration;

use serde::Deserialize;

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

impl Answer {
    /// Whether the control plane itself says that it will never take this batch. A load balancer or a mesh on the way says 400
    /// and 413 too, and so does the control plane of a body that broke off: what they refuse is sent again.
    pub(crate) fn refuses_batch(&self) -> bool {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
        }
        if !matches!(self.status, 400 | 413 | 415) || self.media_type != b"application/problem+json" {
            return false;
        }
        let problem = serde_json::from_slice::<Problem>(&self.body);
        problem.is_ok_and(|problem| {
            ["invalid_batch", "body_too_large", "unsupported_media_type"].contains(&problem.code.as_str())
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_control_plane_itself_can_refuse_a_batch_for_good() {
        let refuses = |status, media_type: &[u8], body: &[u8]| {
            Answer { status, media_type: media_type.to_vec(), body: body.to_vec() }.refuses_batch()
        };
        let problem = b"application/problem+json";
        for (status, code) in
            [(400, "invalid_batch"), (413, "body_too_large"), (415, "unsupported_media_type")]
        {
            let body = format!("{{\"type\": \"about:blank\", \"status\": {status}, \"code\": \"{code}\"}}");
            assert!(refuses(status, problem, body.as_bytes()), "{code}");
            assert!(!refuses(status, b"text/html", body.as_bytes()), "{code} of something else");
            assert!(!refuses(502, problem, body.as_bytes()), "{code} with another status");
        }
        assert!(!refuses(400, problem, br#"{"code": "body_incomplete"}"#), "it broke off");
        assert!(!refuses(400, b"text/html", b"The plain HTTP request was sent to HTTPS port"));
        assert!(!refuses(413, b"", b""));
        assert!(!refuses(400, problem, b"{"));
    }
}
