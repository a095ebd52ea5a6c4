//! The sentences of an explanation.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Verdict;
use crate::audit::{MAX_METHOD, clip};
use crate::authorize::{CredentialView, Decision, Request};
use crate::credential::SentCredential;
use crate::denial::{Denial, Outcome};
use crate::limit::{INTROSPECTION_LIMIT, LimitDecision, LimitReport, RateLimit};
use crate::policy::Policy;
use crate::time::UnixMillis;

/// The detail of a step that was not reached.
pub(super) const NOT_REACHED: &str = "Not reached.";

pub(super) fn credential(
    policy: &Policy,
    sent: Option<Result<SentCredential<'_>, Denial>>,
    outcome: Outcome,
) -> String {
    let prefix = policy.key_prefix();
    match (outcome, sent) {
        (Outcome::Denied(Denial::MalformedKey), None) => {
            "Another system issued the key, and the policy does not allow imported_keys.".to_string()
        }
        (_, None) => "The key was given by name, so no credential was checked.".to_string(),
        (Outcome::PassedThrough, _) => {
            "The credential is not a key. The gateway passes such requests on without identity headers."
                .to_string()
        }
        (Outcome::Denied(Denial::MissingCredentials), _) => {
            "The request has no key, either as a bearer token or in X-API-Key.".to_string()
        }
        (Outcome::Denied(Denial::AmbiguousCredentials), _) => {
            "The request has more than one credential.".to_string()
        }
        (Outcome::Denied(Denial::MalformedKey), Some(Ok(SentCredential::Key(text))))
            if prefix.claims(text) =>
        {
            format!("The credential starts with {}_, but its format or checksum is invalid.", prefix.as_str())
        }
        (Outcome::Denied(Denial::MalformedKey), Some(Ok(_))) if policy.document().imported_keys => {
            format!("The credential does not start with {}_ and is not an imported key.", prefix.as_str())
        }
        (Outcome::Denied(Denial::MalformedKey), Some(Ok(_))) => {
            format!("The credential does not start with {}_, as all keys here do.", prefix.as_str())
        }
        (Outcome::Denied(Denial::MalformedKey), Some(Err(_))) => {
            "The Authorization header does not consist of \"Bearer\", one space and one token.".to_string()
        }
        (_, Some(Ok(SentCredential::Key(text)))) if prefix.claims(text) => {
            "The request has one credential. Its format and checksum are valid.".to_string()
        }
        _ => "The request has one credential, in the format of another system.".to_string(),
    }
}

pub(super) fn key(credential: Option<&CredentialView<'_>>) -> String {
    match credential {
        Some(key) => {
            format!(
                "The credential is version {} of the key {}, environment {}.",
                key.version, key.name, key.environment
            )
        }
        None => "No key of this installation has this secret.".to_string(),
    }
}

pub(super) fn validity(decision: &Decision<'_, '_>, now: UnixMillis) -> String {
    let end = decision.credential.and_then(|key| key.not_after).map(format_time);
    match (decision.outcome, end) {
        (Outcome::Denied(Denial::KeyRevoked), _) => {
            "The key, or this version of it, was revoked.".to_string()
        }
        (Outcome::Denied(Denial::KeyExpired), Some(end)) => {
            format!("The key was valid until {end}; the request is from {}.", format_time(now))
        }
        (_, Some(end)) => format!("The key is not revoked and is valid until {end}."),
        (_, None) => "The key is not revoked and does not expire.".to_string(),
    }
}

pub(super) fn address(decision: &Decision<'_, '_>, verdict: Verdict, request: &Request<'_>) -> String {
    let list = decision.credential.map(|key| key.allowlist.to_owned()).unwrap_or_default();
    if list.networks().is_empty() {
        return "The key may be used from any address.".to_string();
    }
    match (request.source, verdict) {
        (Some(address), Verdict::Refused) => format!("{address} is not in the key's IP allowlist: {list}."),
        (Some(address), _) => format!("{address} is in the key's IP allowlist: {list}."),
        (None, _) => format!("The client's address is unknown, and the key has an IP allowlist: {list}."),
    }
}

pub(super) fn route(policy: &Policy, decision: &Decision<'_, '_>, request: &Request<'_>) -> String {
    // Clients put secrets into paths.
    let method = clip(request.method, MAX_METHOD);
    let path = policy.recorded_path(decision.route, request.target);
    match (decision.outcome, decision.route) {
        (Outcome::Denied(Denial::AmbiguousPath), _) => {
            format!(
                "The path {path} or its query string is ambiguous: servers can interpret it in more than one way."
            )
        }
        (Outcome::Denied(Denial::MethodOverridden), _) => {
            format!("A header overrides the method of {method} {path}, and the gateway does not apply it.")
        }
        (Outcome::Denied(Denial::RouteNotMapped), Some(route)) => {
            format!("{path} matches the route {}, which has no mapping for {method}.", route.template)
        }
        (_, Some(route)) if decision.is_introspection => {
            format!("{method} {} is key introspection; the gateway itself answers.", route.template)
        }
        (_, Some(route)) => format!("{method} {path} matches the route {}.", route.template),
        (_, None) => format!("No route matches the path {path}."),
    }
}

pub(super) fn scope(decision: &Decision<'_, '_>, verdict: Verdict) -> String {
    let Some(required) = decision.route.and_then(|route| route.scope) else {
        return "No scope is required.".to_string();
    };
    match (decision.credential.map_or("", |key| key.scopes), verdict) {
        ("", _) => format!("The route requires {required}, and the key has no scopes."),
        (held, Verdict::Refused) => format!("The route requires {required}, and the key only has: {held}."),
        (held, _) => format!("The route requires {required}, and the key has: {held}."),
    }
}

pub(super) fn limit(decision: &Decision<'_, '_>, verdict: Verdict, limit: Option<&LimitDecision>) -> String {
    match (verdict, limit, decision.credential) {
        (Verdict::Passed, _, _) if decision.is_introspection => {
            format!(
                "Introspection does not count toward the key's limits. It has its own limit: {}.",
                format_limits(&INTROSPECTION_LIMIT)
            )
        }
        (Verdict::Passed, Some(LimitDecision::Admitted { report, .. }), _) => {
            format!("{} of {} remain.", report.remaining, format_window(report))
        }
        (Verdict::Refused, Some(LimitDecision::Refused { report, retry_after_seconds }), _) => {
            format!(
                "Limit exceeded: {}. The next call is allowed in {retry_after_seconds} s.",
                format_window(report)
            )
        }
        (_, None, Some(key)) if decision.outcome == Outcome::Allowed => {
            format!("Each gateway counts separately, up to {}.", format_limits(&key.rate_limit))
        }
        _ => NOT_REACHED.to_string(),
    }
}

fn format_window(report: &LimitReport) -> String {
    format!("{} calls per {}", report.limit, report.window.as_str())
}

fn format_limits(limit: &RateLimit) -> String {
    let minute = limit.per_minute.map(|calls| format!("{calls} calls per minute"));
    let hour = limit.per_hour.map(|calls| format!("{calls} calls per hour"));
    let burst = limit.burst.map(|calls| format!("burst of {calls}"));
    let parts: Vec<String> = [minute, hour, burst].into_iter().flatten().collect();
    parts.join(", ")
}

fn format_time(time: UnixMillis) -> String {
    time.to_rfc3339().unwrap_or_else(|| "a time after the year 9999".to_string())
}
