//! Properties that must hold for any request.

use std::fmt;

use omniflow_harness::upstream::Received;
use serde_json::Value;

use crate::edge::Edge;
use crate::exchange::Exchange;
use crate::variants::{Expect, FORGED, REWRITING, Variant};

/// The identity headers of the filter: each exactly once, and no others of that kind.
const IDENTITY: [&str; 4] =
    ["x-omniflow-environment", "x-omniflow-key-id", "x-omniflow-key-name", "x-omniflow-scopes"];

/// A violated property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Neither a response nor a closed connection.
    Hung,
    /// More responses than requests.
    ResponseCount(usize),
    /// More requests at the upstream than were sent.
    Requests(usize),
    /// A request that must be refused reached the upstream.
    Passed,
    /// The upstream received a call that the key may not make.
    Method(String),
    /// The key may not call the path under one interpretation.
    Path(String),
    /// An identity header is not the filter's, or not present exactly once.
    Identity(String),
    /// A header from the client that only the filter may set, or that overrides method or path.
    Forged(String),
    /// The credential was forwarded.
    Credential,
    /// A limit that is not exact, or not reported.
    Limit(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hung => write!(formatter, "neither an answer nor a closed connection"),
            Self::ResponseCount(count) => write!(formatter, "{count} answers"),
            Self::Requests(count) => write!(formatter, "{count} requests have reached the upstream"),
            Self::Passed => write!(formatter, "it has reached the upstream"),
            Self::Method(method) => write!(formatter, "the upstream received the method {method}"),
            Self::Path(reading) => write!(formatter, "the upstream may read the path as {reading}"),
            Self::Identity(name) => write!(formatter, "not exactly one {name} has reached the upstream"),
            Self::Forged(name) => write!(formatter, "the client's {name} has reached the upstream"),
            Self::Credential => write!(formatter, "the credential has reached the upstream"),
            Self::Limit(what) => formatter.write_str(what),
        }
    }
}

/// The violations of one exchange.
pub fn violations(
    edge: &Edge<'_>,
    variant: &Variant,
    exchange: &Exchange,
    received: &[Received],
) -> Vec<Violation> {
    let mut found = Vec::new();
    if exchange.hung {
        found.push(Violation::Hung);
    }
    if exchange.answers.len() > variant.requests {
        found.push(Violation::ResponseCount(exchange.answers.len()));
    }
    if received.len() > variant.requests {
        found.push(Violation::Requests(received.len()));
    }
    if variant.expect == Expect::Refused && !received.is_empty() {
        found.push(Violation::Passed);
    }
    found.extend(received.iter().flat_map(|received| of_request(edge, received)));
    found
}

fn of_request(edge: &Edge<'_>, received: &Received) -> Vec<Violation> {
    let mut found = Vec::new();
    if !matches!(received.method.as_str(), "GET" | "HEAD") {
        found.push(Violation::Method(received.method.clone()));
    }
    if let Some(reading) = edge.forbidden_reading(received.path.as_bytes()) {
        found.push(Violation::Path(reading.escape_ascii().to_string()));
    }
    for name in IDENTITY {
        if received.headers.iter().filter(|(known, _)| normalize_name(known) == name).count() != 1 {
            found.push(Violation::Identity(name.to_owned()));
        }
    }
    for (name, value) in received.headers.iter().chain(&received.trailers) {
        let name = normalize_name(name);
        let is_identity = name.starts_with("x-omniflow-");
        let speaks = is_identity || REWRITING.contains(&name.as_str());
        if speaks && value.contains(FORGED) || is_identity && !IDENTITY.contains(&name.as_str()) {
            found.push(Violation::Forged(name.clone()));
        }
        if value.contains(&edge.key) || matches!(name.as_str(), "authorization" | "x-api-key") {
            found.push(Violation::Credential);
        }
    }
    found
}

/// A name as read by servers that treat everything except letters and digits as a dash.
fn normalize_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// The request that the upstream received, according to its response. `None` if the response does not come from the
/// upstream.
pub fn echoed(body: &[u8]) -> Option<Received> {
    let echo: Value = serde_json::from_slice(body).ok()?;
    let pairs = |name: &str| -> Vec<(String, String)> {
        serde_json::from_value(echo[name].clone()).unwrap_or_default()
    };
    Some(Received {
        method: echo["method"].as_str()?.to_owned(),
        path: echo["path"].as_str()?.to_owned(),
        headers: pairs("headers"),
        trailers: pairs("trailers"),
        body_bytes: 0,
        body_sha256: echo["body_sha256"].as_str()?.to_owned(),
    })
}
