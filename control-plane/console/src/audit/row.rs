//! One call in the list, and as it arrives.

use std::borrow::Cow;

use askama::Template;
use askama::filters::HtmlSafe;
use omniflow_policy::denial::Outcome;

use super::query::Query;
use crate::format::{Count, Micros, Moment};
use omniflow_api_types::audit::AuditEntryJson;

/// One call, as a row of the table.
#[derive(Template)]
#[template(path = "audit/row.html")]
pub(super) struct Row {
    id: String,
    time: Moment,
    /// The key's name, and the addresses of its page and of its calls.
    key: Option<(String, String, String)>,
    method: String,
    path: String,
    endpoint: Option<(String, String)>,
    status: u16,
    status_path: String,
    class: &'static str,
    reason: Cow<'static, str>,
    meaning: &'static str,
    is_refused: bool,
    latency: Option<Micros>,
    address: Option<(String, String)>,
    /// How many calls this stands for, and since when.
    aggregated: Option<(Count, Moment)>,
}

impl HtmlSafe for Row {}

// === impl Row ===

impl Row {
    /// The call, with links that narrow this search.
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

/// The badge of a status.
pub(super) fn class(status: u16) -> &'static str {
    match status {
        200..=399 => "good",
        400..=499 => "warn",
        500..=599 => "bad",
        _ => "",
    }
}

/// What a reason means, for who looks at a call from outside.
pub(super) fn meaning(reason: &str) -> &'static str {
    match Outcome::from_reason(reason) {
        Some(Outcome::Allowed) => "Let through with a key.",
        Some(Outcome::PassedThrough) => {
            "Passed on without a key: it had a credential of another form, for another filter to judge."
        }
        Some(Outcome::Denied(denial)) => denied(denial),
        None => "",
    }
}

fn denied(denial: omniflow_policy::denial::Denial) -> &'static str {
    use omniflow_policy::denial::Denial;
    match denial {
        Denial::MissingCredentials => "The client sent no key.",
        Denial::MalformedKey => {
            "What the client sent has not the form of a key: it was mistyped or cut short."
        }
        Denial::UnknownKey => "It has the form of a key, and there is no such key.",
        Denial::KeyRevoked => "This version of the key was revoked.",
        Denial::KeyExpired => "This version of the key has expired, or its overlap after a rotation is over.",
        Denial::AmbiguousCredentials => "The client sent more than one credential, and none is picked.",
        Denial::IpNotAllowed => "The key may not be used from this address.",
        Denial::InsufficientScope => "The key has not the scope that this route needs.",
        Denial::RouteNotMapped => "The policy has no route for this path and method.",
        Denial::MethodOverridden => "A header overrides the method, and the gateway does not apply it.",
        Denial::AmbiguousPath => "The path can be read in more than one way, and none is guessed.",
        Denial::RateLimited => "The key has used up its limit.",
        Denial::PolicyUnavailable => "The gateway had no snapshot of keys and policy yet, or one too old.",
    }
}
