//! HTTP calls to the control plane, through Envoy's cluster for it.

use std::time::Duration;

use omniflow_policy::gateway::PUBLISHED_VERSION_HEADER;
use serde::Deserialize;

use crate::config::Config;
use crate::host::{self, DispatchError};

/// The token of a call in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallToken(pub(crate) u32);

/// A response of the control plane.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) media_type: Vec<u8>,
    /// The published version, 0 if the response does not state it.
    pub(crate) published_version: u64,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Whether the control plane responded, rather than a proxy or Envoy in its place.
    pub(crate) fn is_of_control_plane(&self) -> bool {
        !matches!(self.status, 408 | 500..=599) || self.media_type == b"application/problem+json"
    }

    /// Whether the control plane itself will never accept this batch. A load balancer or a mesh in between also
    /// responds with 400 and 413, and so does the control plane when a body was cut off: those batches are sent again.
    pub(crate) fn rejects_batch(&self) -> bool {
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

/// Dispatches `POST path`.
pub(crate) fn post(
    config: &Config,
    path: &str,
    media_type: &str,
    body: &[u8],
    timeout: Duration,
) -> Result<CallToken, DispatchError> {
    dispatch(config, "POST", path, Some(media_type), body, timeout)
}

/// Dispatches `GET path`.
pub(crate) fn get(config: &Config, path: &str, timeout: Duration) -> Result<CallToken, DispatchError> {
    dispatch(config, "GET", path, None, &[], timeout)
}

fn dispatch(
    config: &Config,
    method: &str,
    path: &str,
    media_type: Option<&str>,
    body: &[u8],
    timeout: Duration,
) -> Result<CallToken, DispatchError> {
    let mut headers = vec![
        (":method", method),
        (":path", path),
        (":authority", config.authority.as_str()),
        ("authorization", config.authorization.as_str()),
    ];
    headers.extend(media_type.map(|media_type| ("content-type", media_type)));
    host::dispatch_http_call(&config.cluster, headers, body, timeout).map(CallToken)
}

/// The response to a call, in its callback. `None` for a reset, a timeout, or a body over Envoy's limit: the host reports all of
/// these with no headers.
pub(crate) fn response(num_headers: usize, body_size: usize) -> Option<Response> {
    if num_headers == 0 {
        return None;
    }
    let headers = host::call_response_headers();
    Some(Response {
        status: headers.status()?,
        media_type: headers.get(b"content-type").unwrap_or_default().to_vec(),
        published_version: headers
            .get(PUBLISHED_VERSION_HEADER.as_bytes())
            .and_then(version)
            .unwrap_or_default(),
        body: host::call_response_body(body_size),
    })
}

fn version(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_control_plane_itself_can_reject_a_batch_for_good() {
        let rejects = |status, media_type: &[u8], body: &[u8]| {
            let media_type = media_type.to_vec();
            Response { status, media_type, published_version: 0, body: body.to_vec() }.rejects_batch()
        };
        let problem = b"application/problem+json";
        for (status, code) in
            [(400, "invalid_batch"), (413, "body_too_large"), (415, "unsupported_media_type")]
        {
            let body = format!("{{\"type\": \"about:blank\", \"status\": {status}, \"code\": \"{code}\"}}");
            assert!(rejects(status, problem, body.as_bytes()), "{code}");
            assert!(!rejects(status, b"text/html", body.as_bytes()), "{code} of something else");
            assert!(!rejects(502, problem, body.as_bytes()), "{code} with another status");
        }
        assert!(!rejects(400, problem, br#"{"code": "body_incomplete"}"#), "the body was cut off");
        assert!(!rejects(400, b"text/html", b"The plain HTTP request was sent to HTTPS port"));
        assert!(!rejects(413, b"", b""));
        assert!(!rejects(400, problem, b"{"));
    }
}
