#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::address::{Allowlist, AllowlistView};
use crate::authorize::{
    Call, CredentialView, GatewaySettings, INTROSPECTION_PATH, NonKeyCredentials, authorize,
    authorize_credential,
};
use crate::key::Environment;
use crate::limit::{LimitState, RateLimit};
use crate::policy::PolicyDocument;
use crate::time::{MonotonicNanos, UnixMillis};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn settings() -> GatewaySettings {
    GatewaySettings {
        non_key_credentials: NonKeyCredentials::Passthrough,
        introspection_path: Some(INTROSPECTION_PATH.to_owned()),
        ..GatewaySettings::default()
    }
}

fn request<'a>(method: &'a str, target: &'a str) -> Request<'a> {
    Request {
        is_method_overridden: false,
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

fn details(
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
fn each_step_explains_its_facts() {
    let list = Allowlist::parse(["10.0.0.0/8", "203.0.113.0/24"]).unwrap().to_bytes();
    let key = credential(&list);
    let limit = key.rate_limit.charge(LimitState::default(), MonotonicNanos(0));
    assert_eq!(
        details(request("GET", "/api/v1/contacts/7?omf_live_x"), key, Some(&limit)),
        [
            "The key was given by name, so no credential was checked.",
            "The credential is version 2 of the key crm-sync, environment live.",
            "The key is not revoked and is valid until 2023-11-14T22:13:20.001Z.",
            "203.0.113.7 is in the key's IP allowlist: 10.0.0.0/8, 203.0.113.0/24.",
            "GET /api/v1/contacts/7 matches the route /api/v1/contacts/{id}.",
            "The route requires contacts:read, and the key has: agents:read contacts:read.",
            "4 of 10 calls per minute remain.",
        ]
    );
    let uncounted = details(request("GET", "/api/v1/contacts"), key, None);
    assert_eq!(
        uncounted[6],
        "Each gateway counts separately, up to 10 calls per minute, 100 calls per hour, burst of 5."
    );
    let denied = details(request("POST", "/api/v1/contacts"), key, None);
    assert_eq!(
        denied[5..],
        [
            "The route requires contacts:write, and the key only has: agents:read contacts:read.",
            "Not reached."
        ]
    );
    let introspection = details(request("GET", INTROSPECTION_PATH), key, None);
    assert_eq!(
        introspection[5..],
        [
            "No scope is required.",
            "Introspection does not count toward the key's limits. It has its own limit: 10 calls per minute."
        ]
    );
}

#[test]
fn a_secret_in_the_path_is_redacted() {
    let secret = format!("omf_live_{}", "a1B2".repeat(12));
    let target = format!("/api/v1/contacts/{secret}?{secret}");
    let details = details(request("GET", &target), credential(&[]), None);
    assert!(details[4].contains("omf_live_***"));
    assert!(details.iter().all(|detail| !detail.contains("a1B2")), "{details:?}");
}

#[test]
fn redacted_parameters_are_not_shown() {
    let document = r#"{"scopes": [{"name": "contacts:read"}], "routes": [
        {"path": "/contacts/{email}", "methods": ["GET"], "scope": "contacts:read", "redact": ["email"]}]}"#;
    let policy = Policy::compile(PolicyDocument::from_json(document.as_bytes()).unwrap()).unwrap();
    let settings = settings();
    for (method, target) in [
        ("GET", "/contacts/zoe@example.com"),
        ("PUT", "/contacts/zoe@example.com"),
        ("GET", "/contacts/zoe@example.com/"),
        ("GET", "/contacts//zoe@example.com"),
    ] {
        let request = request(method, target);
        let decision = authorize_credential(&policy, &settings, &request, credential(&[]));
        let steps = explain(&policy, None, &request, &decision, None);
        assert!(steps.iter().all(|step| !step.detail.contains("zoe")), "{steps:?}");
        assert!(steps[4].detail.contains("/contacts/***"), "{steps:?}");
    }
}

#[test]
fn a_request_without_a_key_that_passes_reaches_only_the_first_step() {
    let policy = Policy::compile(PolicyDocument::default()).unwrap();
    let settings = settings();
    let credential = Ok(SentCredential::NonKey { token: Some(b"eyJ.x.y"), denial: Denial::MalformedKey });
    let call = Call { credential, request: request("GET", "/api/v1/contacts") };
    let decision = authorize(&policy, &settings, &call, |_| None);
    let steps = explain(&policy, Some(credential), &call.request, &decision, None);
    let verdicts: Vec<Verdict> = steps.iter().map(|step| step.verdict).collect();
    assert_eq!(verdicts[0], Verdict::Passed);
    assert!(verdicts[1..].iter().all(|verdict| *verdict == Verdict::NotReached));
}

#[test]
fn steps_serialize_to_json() {
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
