//! A decision, step by step, for people.
//!
//! Nothing is decided here: the steps are told from the [`Decision`] that was made, so that an explanation cannot
//! say anything else than what the gateway does.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::audit::clip;
use crate::authorize::{CredentialView, Decision, Request};
use crate::credential::Presented;
use crate::limit::{LimitDecision, LimitReport, RateLimit};
use crate::outcome::{Denial, Outcome};
use crate::path::split_query;
use crate::policy::Policy;
use crate::time::UnixMillis;

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which step.
    pub name: StepName,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it was refused, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Denial>,
    /// The facts, in plain sentences. Never a secret.
    pub detail: String,
}

/// The steps, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// One credential, of the form of a key.
    Credential,
    /// A key has it.
    Key,
    /// The key is neither revoked nor expired.
    Validity,
    /// The key may be used from the caller's address.
    Address,
    /// The policy has a route for path and method.
    Route,
    /// The key has the scope that the route needs.
    Scope,
    /// The key's limits have a call left.
    Limit,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The call may go on to the next step.
    Passed,
    /// The call ends here.
    Refused,
    /// The call did not come so far, or went on without this step.
    NotReached,
}

/// The last step that a call came to, and why it was refused there, if it was.
#[derive(Clone, Copy)]
struct End {
    step: StepName,
    denial: Option<Denial>,
}

/// All steps of a decision, also those that were not reached.
///
/// `presented` is what the request presented, or `None` where the key was named and nobody presented it. `limit` is
/// what the key's limits said, or `None` where their counters are not at hand.
pub fn explain(
    policy: &Policy,
    presented: Option<Result<Presented<'_>, Denial>>,
    request: &Request<'_>,
    decision: &Decision<'_, '_>,
    limit: Option<&LimitDecision>,
) -> Vec<Step> {
    let end = End::of(decision, limit);
    let step = |name| {
        let verdict = end.verdict(name);
        let detail = match (name, verdict) {
            (StepName::Limit, _) => limit_detail(decision, verdict, limit),
            (_, Verdict::NotReached) => "Not reached.".to_string(),
            (StepName::Credential, _) => credential_detail(policy, presented, decision.outcome),
            (StepName::Key, _) => key_detail(decision.credential.as_ref()),
            (StepName::Validity, _) => validity_detail(decision, request.now),
            (StepName::Address, _) => address_detail(decision, verdict, request),
            (StepName::Route, _) => route_detail(decision, request),
            (StepName::Scope, _) => scope_detail(decision, verdict),
        };
        Step { name, verdict, reason: end.denial.filter(|_| verdict == Verdict::Refused), detail }
    };
    StepName::ALL.into_iter().map(step).collect()
}

// === impl Verdict ===

impl Verdict {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::NotReached => "not_reached",
        }
    }
}

// === impl StepName ===

impl StepName {
    /// All steps, in their order.
    pub const ALL: [Self; 7] =
        [Self::Credential, Self::Key, Self::Validity, Self::Address, Self::Route, Self::Scope, Self::Limit];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Key => "key",
            Self::Validity => "validity",
            Self::Address => "address",
            Self::Route => "route",
            Self::Scope => "scope",
            Self::Limit => "limit",
        }
    }

    /// The step that refuses for this reason.
    pub const fn of(denial: Denial) -> Self {
        match denial {
            Denial::MissingCredentials | Denial::MalformedKey | Denial::AmbiguousCredentials => {
                Self::Credential
            }
            Denial::UnknownKey | Denial::PolicyUnavailable => Self::Key,
            Denial::KeyRevoked | Denial::KeyExpired => Self::Validity,
            Denial::IpNotAllowed => Self::Address,
            Denial::AmbiguousPath | Denial::RouteNotMapped => Self::Route,
            Denial::InsufficientScope => Self::Scope,
            Denial::RateLimited => Self::Limit,
        }
    }
}

// === impl End ===

impl End {
    fn of(decision: &Decision<'_, '_>, limit: Option<&LimitDecision>) -> Self {
        let refused = |denial| Self { step: StepName::of(denial), denial: Some(denial) };
        let passed = |step| Self { step, denial: None };
        match (decision.outcome, limit) {
            (Outcome::Denied(denial), _) => refused(denial),
            (Outcome::PassedThrough, _) => passed(StepName::Credential),
            (Outcome::Allowed, _) if decision.asks_about_key => passed(StepName::Limit),
            (Outcome::Allowed, Some(LimitDecision::Refused { .. })) => refused(Denial::RateLimited),
            (Outcome::Allowed, Some(LimitDecision::Admitted { .. })) => passed(StepName::Limit),
            (Outcome::Allowed, None) => passed(StepName::Scope),
        }
    }

    fn verdict(self, step: StepName) -> Verdict {
        match self.denial {
            Some(_) if step == self.step => Verdict::Refused,
            _ if step <= self.step => Verdict::Passed,
            _ => Verdict::NotReached,
        }
    }
}

// === details ===

fn credential_detail(
    policy: &Policy,
    presented: Option<Result<Presented<'_>, Denial>>,
    outcome: Outcome,
) -> String {
    let prefix = policy.key_prefix();
    match (outcome, presented) {
        (Outcome::Denied(Denial::MalformedKey), None) => {
            "The key is of another system, and the policy does not have imported_keys: gateways do not look it up."
                .to_string()
        }
        (_, None) => "The key was named, so no credential was read.".to_string(),
        (Outcome::PassedThrough, _) => {
            "The credential is no key. The gateway lets such calls go on unmarked, for another filter to judge."
                .to_string()
        }
        (Outcome::Denied(Denial::MissingCredentials), _) => {
            "The request has no key, neither as bearer token nor in X-API-Key.".to_string()
        }
        (Outcome::Denied(Denial::AmbiguousCredentials), _) => {
            "The request has more than one credential.".to_string()
        }
        (Outcome::Denied(Denial::MalformedKey), Some(Ok(Presented::Key(text)))) if prefix.claims(text) => {
            format!("The credential begins with {}_, but its form or checksum is wrong.", prefix.as_str())
        }
        (Outcome::Denied(Denial::MalformedKey), Some(Ok(_))) if policy.document().imported_keys => {
            format!("The credential does not begin with {}_ and is no imported key.", prefix.as_str())
        }
        (Outcome::Denied(Denial::MalformedKey), Some(Ok(_))) => {
            format!("The credential does not begin with {}_, as all keys here do.", prefix.as_str())
        }
        (Outcome::Denied(Denial::MalformedKey), Some(Err(_))) => {
            "The Authorization header is not \"Bearer\", one space, and one token.".to_string()
        }
        (_, Some(Ok(Presented::Key(text)))) if prefix.claims(text) => {
            "One credential was found. It has the form and the checksum of a key.".to_string()
        }
        _ => "One credential was found. It has the form of another system.".to_string(),
    }
}

fn key_detail(credential: Option<&CredentialView<'_>>) -> String {
    match credential {
        Some(key) => {
            format!("It is version {} of the key {}, environment {}.", key.version, key.name, key.environment)
        }
        None => "No key of this installation has this secret.".to_string(),
    }
}

fn validity_detail(decision: &Decision<'_, '_>, now: UnixMillis) -> String {
    let end = decision.credential.and_then(|key| key.not_after).map(instant);
    match (decision.outcome, end) {
        (Outcome::Denied(Denial::KeyRevoked), _) => {
            "The key, or this version of it, was revoked.".to_string()
        }
        (Outcome::Denied(Denial::KeyExpired), Some(end)) => {
            format!("It was valid until {end}, and the call is of {}.", instant(now))
        }
        (_, Some(end)) => format!("It is not revoked, and valid until {end}."),
        (_, None) => "It is not revoked, and does not expire.".to_string(),
    }
}

fn address_detail(decision: &Decision<'_, '_>, verdict: Verdict, request: &Request<'_>) -> String {
    let list = decision.credential.map(|key| key.allowlist.to_owned()).unwrap_or_default();
    if list.networks().is_empty() {
        return "The key may be used from any address.".to_string();
    }
    match (request.source, verdict) {
        (Some(address), Verdict::Refused) => format!("{address} is not in the key's list: {list}."),
        (Some(address), _) => format!("{address} is in the key's list: {list}."),
        (None, _) => format!("The caller's address is not known, and the key has a list: {list}."),
    }
}

fn route_detail(decision: &Decision<'_, '_>, request: &Request<'_>) -> String {
    // Callers put secrets into paths.
    let (method, path) = (clip(request.method), clip(split_query(request.target).0));
    match (decision.outcome, decision.route) {
        (Outcome::Denied(Denial::AmbiguousPath), _) => {
            format!("The path {path} (or its query string) can be read in more than one way.")
        }
        (Outcome::Denied(Denial::RouteNotMapped), Some(route)) => {
            format!("{path} is the route {}, which is not for {method}.", route.template)
        }
        (_, Some(route)) if decision.asks_about_key => {
            format!("{method} {} asks about the own key; the gateway answers itself.", route.template)
        }
        (_, Some(route)) => format!("{method} {path} is the route {}.", route.template),
        (_, None) => format!("No route has the path {path}."),
    }
}

fn scope_detail(decision: &Decision<'_, '_>, verdict: Verdict) -> String {
    let Some(needed) = decision.route.and_then(|route| route.scope) else {
        return "No scope is needed.".to_string();
    };
    match (decision.credential.map_or("", |key| key.scopes), verdict) {
        ("", _) => format!("The route needs {needed}, and the key has no scope."),
        (held, Verdict::Refused) => format!("The route needs {needed}, and the key has only: {held}."),
        (held, _) => format!("The route needs {needed}, and the key has: {held}."),
    }
}

fn limit_detail(decision: &Decision<'_, '_>, verdict: Verdict, limit: Option<&LimitDecision>) -> String {
    match (verdict, limit, decision.credential) {
        (Verdict::Passed, _, _) if decision.asks_about_key => "To ask about a key costs nothing.".to_string(),
        (Verdict::Passed, Some(LimitDecision::Admitted { report, .. }), _) => {
            format!("After this call {} more pass at once, of {}.", report.remaining, window(report))
        }
        (Verdict::Refused, Some(LimitDecision::Refused { report, retry_after_seconds }), _) => {
            format!("Used up: {}. A call passes in {retry_after_seconds} s.", window(report))
        }
        (_, None, Some(key)) if decision.outcome == Outcome::Allowed => {
            format!("Each gateway counts for itself, up to {}.", limits(&key.rate_limit))
        }
        _ => "Not reached.".to_string(),
    }
}

fn window(report: &LimitReport) -> String {
    format!("{} calls a {}", report.limit, report.window.as_str())
}

fn limits(limit: &RateLimit) -> String {
    let minute = limit.per_minute.map(|calls| format!("{calls} calls a minute"));
    let hour = limit.per_hour.map(|calls| format!("{calls} calls an hour"));
    let burst = limit.burst.map(|calls| format!("{calls} at once"));
    let parts: Vec<String> = [minute, hour, burst].into_iter().flatten().collect();
    parts.join(", ")
}

fn instant(time: UnixMillis) -> String {
    time.to_rfc3339().unwrap_or_else(|| "a time beyond the year 9999".to_string())
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::address::{Allowlist, AllowlistView};
    use crate::authorize::{
        Call, GatewaySettings, KEY_INFO_PATH, NonKeyCredentials, authorize, authorize_credential,
    };
    use crate::key::Environment;
    use crate::limit::LimitState;
    use crate::policy::PolicyDocument;
    use crate::time::MonotonicNanos;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn settings() -> GatewaySettings {
        GatewaySettings {
            non_key_credentials: NonKeyCredentials::Passthrough,
            key_info_path: Some(KEY_INFO_PATH.to_owned()),
        }
    }

    fn request<'a>(method: &'a str, target: &'a str) -> Request<'a> {
        Request {
            method: method.as_bytes(),
            target: target.as_bytes(),
            source: Some("203.0.113.7".parse().unwrap()),
            now: NOW,
        }
    }

    fn credential(allowlist: &[u8]) -> CredentialView<'_> {
        CredentialView {
            key_id: uuid::Uuid::from_u128(1),
            version: 2,
            name: "crm-sync",
            environment: Environment::Live,
            revoked: false,
            not_after: Some(UnixMillis(NOW.0 + 1)),
            scopes: "agents:read contacts:read",
            rate_limit: RateLimit { per_minute: Some(10), per_hour: Some(100), burst: Some(5) },
            allowlist: AllowlistView::from_bytes(allowlist).unwrap(),
        }
    }

    fn told(
        request: Request<'_>,
        credential: CredentialView<'_>,
        limit: Option<&LimitDecision>,
    ) -> Vec<String> {
        let policy = Policy::compile(PolicyDocument::default()).unwrap();
        let settings = settings();
        let decision = authorize_credential(&policy, &settings, &request, credential);
        explain(&policy, None, &request, &decision, limit).into_iter().map(|step| step.detail).collect()
    }

    #[test]
    fn the_facts_are_told() {
        let list = Allowlist::parse(["10.0.0.0/8", "203.0.113.0/24"]).unwrap().to_bytes();
        let key = credential(&list);
        let limit = key.rate_limit.take(LimitState::default(), MonotonicNanos(0));
        assert_eq!(
            told(request("GET", "/api/v1/contacts/7?omf_live_x"), key, Some(&limit)),
            [
                "The key was named, so no credential was read.",
                "It is version 2 of the key crm-sync, environment live.",
                "It is not revoked, and valid until 2023-11-14T22:13:20.001Z.",
                "203.0.113.7 is in the key's list: 10.0.0.0/8, 203.0.113.0/24.",
                "GET /api/v1/contacts/7 is the route /api/v1/contacts/{id}.",
                "The route needs contacts:read, and the key has: agents:read contacts:read.",
                "After this call 4 more pass at once, of 10 calls a minute.",
            ]
        );
        let uncounted = told(request("GET", "/api/v1/contacts"), key, None);
        assert_eq!(
            uncounted[6],
            "Each gateway counts for itself, up to 10 calls a minute, 100 calls an hour, 5 at once."
        );
        let refused = told(request("POST", "/api/v1/contacts"), key, None);
        assert_eq!(
            refused[5..],
            [
                "The route needs contacts:write, and the key has only: agents:read contacts:read.",
                "Not reached."
            ]
        );
        let info = told(request("GET", KEY_INFO_PATH), key, None);
        assert_eq!(info[5..], ["No scope is needed.", "To ask about a key costs nothing."]);
    }

    #[test]
    fn a_secret_in_the_path_is_blotted_out() {
        let secret = format!("omf_live_{}", "a1B2".repeat(12));
        let target = format!("/api/v1/contacts/{secret}?{secret}");
        let told = told(request("GET", &target), credential(&[]), None);
        assert!(told[4].contains("omf_live_***"));
        assert!(told.iter().all(|detail| !detail.contains("a1B2")), "{told:?}");
    }

    #[test]
    fn what_goes_on_as_no_key_ends_with_the_first_step() {
        let policy = Policy::compile(PolicyDocument::default()).unwrap();
        let settings = settings();
        let credential = Ok(Presented::NonKey { token: Some(b"eyJ.x.y"), denial: Denial::MalformedKey });
        let call = Call { credential, request: request("GET", "/api/v1/contacts") };
        let decision = authorize(&policy, &settings, &call, |_| None);
        let steps = explain(&policy, Some(credential), &call.request, &decision, None);
        let verdicts: Vec<Verdict> = steps.iter().map(|step| step.verdict).collect();
        assert_eq!(verdicts[0], Verdict::Passed);
        assert!(verdicts[1..].iter().all(|verdict| *verdict == Verdict::NotReached));
    }

    #[test]
    fn steps_in_json() {
        let step = Step {
            name: StepName::Scope,
            verdict: Verdict::Refused,
            reason: Some(Denial::InsufficientScope),
            detail: "x".to_owned(),
        };
        let json = serde_json::json!(
            {"name": "scope", "verdict": "refused", "reason": "insufficient_scope", "detail": "x"}
        );
        assert_eq!(serde_json::to_value(&step).unwrap(), json);
        let step = Step { verdict: Verdict::NotReached, reason: None, ..step };
        let json = serde_json::json!({"name": "scope", "verdict": "not_reached", "detail": "x"});
        assert_eq!(serde_json::to_value(&step).unwrap(), json);
    }
}
