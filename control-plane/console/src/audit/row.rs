//! A call as a table row, in the list and in the live stream.

use std::borrow::Cow;

use askama::Template;
use askama::filters::HtmlSafe;
use omniflow_policy::denial::Outcome;

use super::query::Query;
use crate::format::{Count, Micros, Moment};
use omniflow_api_types::audit::AuditEntryJson;

/// A call as a table row.
#[derive(Template)]
#[template(path = "audit/row.html")]
pub(super) struct Row {
    id: String,
    time: Moment,
    /// Name of the key, and the paths of its page and of its calls.
    key: Option<(String, String, String)>,
    method: String,
    path: String,
    endpoint: Option<(String, String)>,
    status: u16,
    status_path: String,
    /// Failed gRPC status, and the path of the calls with it.
    grpc_error: Option<(u32, String)>,
    class: &'static str,
    reason: Cow<'static, str>,
    meaning: &'static str,
    is_refused: bool,
    latency: Option<Micros>,
    address: Option<(String, String)>,
    /// Number of aggregated calls, and the time of the first.
    aggregated: Option<(Count, Moment)>,
}

impl HtmlSafe for Row {}

// === impl Row ===

impl Row {
    /// The row of a call, with links that narrow the search.
    pub(super) fn new(call: AuditEntryJson, query: &Query) -> Self {
        let key = call.key_id.zip(call.key_name).map(|(id, name)| {
            let id = id.to_string();
            let calls = query.link(&[("key", &id)]);
            (name, format!("/keys/{id}"), calls)
        });
        let endpoint = call.endpoint.map(|endpoint| {
            let calls = query.link(&[("endpoint", &endpoint)]);
            (endpoint, calls)
        });
        let address = call.source_ip.map(|address| {
            let address = address.to_string();
            let calls = query.link(&[("ip", &address)]);
            (address, calls)
        });
        let aggregated =
            call.aggregated_calls.zip(call.first_time).map(|(calls, first)| (Count(calls), Moment(first.0)));
        Self {
            time: Moment(call.time.0),
            key,
            method: call.method,
            path: call.path,
            endpoint,
            status: call.status,
            status_path: query.link(&[("status", &call.status.to_string())]),
            grpc_error: call
                .grpc_status
                .filter(|status| *status > 0)
                .map(|status| (status, query.link(&[("grpc_status", &status.to_string())]))),
            class: class(call.status),
            meaning: meaning(&call.reason),
            reason: call.reason,
            is_refused: call.decision == "denied",
            latency: aggregated.is_none().then_some(Micros(call.latency_us)),
            address,
            aggregated,
            id: call.id,
        }
    }
}

/// The CSS class of a status.
pub(super) fn class(status: u16) -> &'static str {
    match status {
        200..=399 => "good",
        400..=499 => "warn",
        500..=599 => "bad",
        _ => "",
    }
}

/// The explanation of a reason code.
pub(super) fn meaning(reason: &str) -> &'static str {
    match Outcome::from_reason(reason) {
        Some(Outcome::Allowed) => "Allowed with a valid key.",
        Some(Outcome::PassedThrough) => {
            "Passed through without a key: the credential is of another type, which another filter must check."
        }
        Some(Outcome::Denied(denial)) => denial_meaning(denial),
        None => "",
    }
}

fn denial_meaning(denial: omniflow_policy::denial::Denial) -> &'static str {
    use omniflow_policy::denial::Denial;
    match denial {
        Denial::MissingCredentials => "The client sent no key.",
        Denial::MalformedKey => "The credential is not in key format: it is mistyped or truncated.",
        Denial::UnknownKey => "The credential is in key format, but no such key exists.",
        Denial::KeyRevoked => "This version of the key was revoked.",
        Denial::KeyExpired => {
            "This version of the key has expired, or its overlap after a rotation has ended."
        }
        Denial::AmbiguousCredentials => "The client sent more than one credential, so none was accepted.",
        Denial::IpNotAllowed => "The key may not be used from this IP address.",
        Denial::InsufficientScope => "The key lacks the scope that this route requires.",
        Denial::RouteNotMapped => "No route in the policy matches this path and method.",
        Denial::MethodOverridden => "A header overrides the method, and the gateway does not apply it.",
        Denial::AmbiguousPath => "The path can be interpreted in more than one way.",
        Denial::RateLimited => "The key has exceeded its limit.",
        Denial::PolicyUnavailable => {
            "The gateway had no snapshot of keys and policy yet, or its snapshot was too old."
        }
    }
}
