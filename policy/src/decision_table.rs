//! The decision table: one list of cases that must be decided in the same way by this crate, natively and as
//! WebAssembly, and by the filter in a real Envoy.

use core::cmp::Ordering;

use serde::Deserialize;
use uuid::Uuid;
#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::address::Allowlist;
use crate::authorize::{
    Call, Decision, GatewaySettings, INTROSPECTION_PATH, Request, authorize, authorize_credential,
};
use crate::credential::{find_credential, find_method};
use crate::denial::{Denial, Outcome};
use crate::digest::Digest;
use crate::explain::{Step, StepName, Verdict, explain};
use crate::key::{Environment, KeyPrefix, compose_key};
use crate::limit::{INTROSPECTION_LIMIT, INTROSPECTION_LIMIT_NAME, LimitDecision, LimitState, RateLimit};
use crate::policy::{Policy, PolicyDocument};
use crate::scope::ScopeSet;
use crate::snapshot::{Credential, Image};
use crate::time::{MonotonicNanos, UnixMillis};

const CASES: &str = include_str!("../golden/decisions.json");
const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const MONOTONIC: MonotonicNanos = MonotonicNanos(1_000_000_000_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Whether the policy has imported keys.
    #[serde(default)]
    imported_keys: bool,
    key: Option<Key>,
    headers: Vec<(String, String)>,
    method: String,
    target: String,
    source_ip: String,
    reason: String,
    endpoint: Option<String>,
    required_scope: Option<String>,
    limit: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    /// The secret of an imported key; without it the key is the installation's own.
    imported_secret: Option<String>,
    scopes: ScopeSet,
    #[serde(default = "live")]
    environment: Environment,
    #[serde(default)]
    state: State,
    #[serde(default)]
    ip_allowlist: Allowlist,
    #[serde(default)]
    rate_limit: RateLimit,
    #[serde(default)]
    calls_before: u32,
}

#[derive(Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum State {
    #[default]
    Active,
    Expiring,
    Expired,
    Revoked,
}

fn live() -> Environment {
    Environment::Live
}

/// The decision on a case.
#[derive(Debug, PartialEq)]
struct Decided {
    reason: String,
    endpoint: Option<String>,
    required_scope: Option<String>,
    limit: Option<String>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(CASES).unwrap()
}

fn secret(case: &Case) -> String {
    if let Some(imported) = case.key.as_ref().and_then(|key| key.imported_secret.as_ref()) {
        return imported.clone();
    }
    let mut byte = 0u8;
    let environment = case.key.as_ref().map_or(Environment::Live, |key| key.environment);
    let own = compose_key(&KeyPrefix::default(), environment, &mut || {
        byte = byte.wrapping_add(37);
        byte
    });
    own.expose().to_owned()
}

fn credential(key: &Key, digest: Digest) -> Credential {
    Credential {
        digest,
        key_id: Uuid::from_u128(1),
        version: 1,
        environment: key.environment,
        revoked: key.state == State::Revoked,
        not_after: match key.state {
            State::Expired => Some(NOW),
            State::Expiring => Some(UnixMillis(NOW.0 + 1)),
            _ => None,
        },
        name: String::from("case"),
        scopes: key.scopes.clone(),
        rate_limit: key.rate_limit,
        allowlist: key.ip_allowlist.clone(),
    }
}

/// The decision of the key's limits, if the call is charged to them.
fn charge(key: &Key, decision: &Decision<'_, '_>) -> Option<LimitDecision> {
    let own = decision.credential.filter(|_| decision.outcome == Outcome::Allowed)?.rate_limit;
    let limit = if decision.is_introspection { INTROSPECTION_LIMIT } else { own };
    let mut state = LimitState::default();
    for _ in 0..key.calls_before {
        if let LimitDecision::Admitted { state: next, .. } = limit.charge(state, MONOTONIC) {
            state = next;
        }
    }
    Some(limit.charge(state, MONOTONIC))
}

fn decide(case: &Case) -> (Decided, Vec<Step>) {
    let secret = secret(case);
    let digest = Digest::of(secret.as_bytes());
    let credentials = case.key.iter().map(|key| credential(key, digest));
    let document = PolicyDocument { imported_keys: case.imported_keys, ..PolicyDocument::default() };
    let image = Image::build(Uuid::nil(), 1, &document, credentials.collect()).unwrap();
    let policy = Policy::compile(document).unwrap();
    let headers: Vec<(String, String)> = case
        .headers
        .iter()
        .map(|(name, value)| {
            (name.clone(), value.replace("{key}", &secret).replace("{digest}", &digest.to_hex()))
        })
        .collect();
    let pairs = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let settings = GatewaySettings {
        introspection_path: Some(INTROSPECTION_PATH.to_owned()),
        ..GatewaySettings::default()
    };
    let method = find_method(pairs.clone(), case.method.as_bytes(), settings.method_override);
    let call = Call {
        credential: find_credential(pairs, policy.key_prefix(), settings.credential_header),
        request: Request {
            method: case.method.as_bytes(),
            is_method_overridden: method.is_err(),
            target: case.target.as_bytes(),
            source: crate::address::parse_source_address(case.source_ip.as_bytes()),
            now: NOW,
        },
    };
    let decision = authorize(&policy, &settings, &call, |digest: &Digest| image.find(digest));
    let limit = case.key.as_ref().and_then(|key| charge(key, &decision));
    let steps = explain(&policy, Some(call.credential), &call.request, &decision, limit.as_ref());
    assert!(steps.iter().all(|step| !step.detail.contains(&secret)), "{}", case.name);
    if let Some(credential) = decision.credential {
        let named = authorize_credential(&policy, &settings, &call.request, credential);
        let named_steps = explain(&policy, None, &call.request, &named, limit.as_ref());
        assert_eq!(named.outcome, decision.outcome, "{}", case.name);
        assert_eq!(named_steps[1..], steps[1..], "{}", case.name);
    }
    let (outcome, exceeded) = match limit {
        Some(LimitDecision::Refused { report, .. }) => {
            let name =
                if decision.is_introspection { INTROSPECTION_LIMIT_NAME } else { report.window.as_str() };
            (Outcome::Denied(Denial::RateLimited), Some(name.to_owned()))
        }
        _ => (decision.outcome, None),
    };
    let required = decision.route.and_then(|route| route.scope).map(ToString::to_string);
    let decided = Decided {
        reason: outcome.reason().to_owned(),
        endpoint: decision.route.map(|route| route.template.to_owned()),
        required_scope: required.filter(|_| outcome == Outcome::Denied(Denial::InsufficientScope)),
        limit: exceeded,
    };
    (decided, steps)
}

#[test]
fn every_case_is_decided_as_in_the_table() {
    let cases = cases();
    assert!(cases.len() >= 60);
    for case in cases {
        let expected = Decided {
            reason: case.reason.clone(),
            endpoint: case.endpoint.clone(),
            required_scope: case.required_scope.clone(),
            limit: case.limit.clone(),
        };
        assert_eq!(decide(&case).0, expected, "{}", case.name);
    }
}

/// The index of the step that decides a case with this reason.
fn deciding_step(reason: &str) -> usize {
    match reason {
        "missing_credentials" | "malformed_key" | "ambiguous_credentials" => 0,
        "unknown_key" => 1,
        "key_revoked" | "key_expired" => 2,
        "ip_not_allowed" => 3,
        "ambiguous_path" | "route_not_mapped" | "method_overridden" => 4,
        "insufficient_scope" => 5,
        "rate_limited" => 6,
        "allowed" => 7,
        other => panic!("no case has {other}"),
    }
}

#[test]
fn every_explanation_agrees_with_its_decision() {
    for case in cases() {
        let (_, steps) = decide(&case);
        let deciding = deciding_step(&case.reason);
        assert_eq!(steps.iter().map(|step| step.name).collect::<Vec<_>>(), StepName::ALL, "{}", case.name);
        for (index, step) in steps.iter().enumerate() {
            let expected = match index.cmp(&deciding) {
                Ordering::Less => (Verdict::Passed, None),
                Ordering::Equal => (Verdict::Refused, Some(case.reason.as_str())),
                Ordering::Greater => (Verdict::NotReached, None),
            };
            assert_eq!((step.verdict, step.reason.map(Denial::code)), expected, "{}: {step:?}", case.name);
            let is_reached = step.verdict != Verdict::NotReached;
            assert_eq!(step.detail != "Not reached.", is_reached, "{}: {step:?}", case.name);
        }
        let facts = steps.iter().map(|step| step.detail.as_str()).collect::<Vec<_>>().join(" ");
        let mentioned =
            [&case.endpoint, &case.required_scope].into_iter().flatten().all(|fact| facts.contains(fact));
        assert!(mentioned || deciding < 4, "{}: {facts}", case.name);
    }
}

#[test]
fn the_table_covers_every_reason_that_depends_on_the_snapshot() {
    let cases = cases();
    for outcome in Outcome::all() {
        let elsewhere =
            matches!(outcome, Outcome::PassedThrough | Outcome::Denied(Denial::PolicyUnavailable));
        let listed = cases.iter().any(|case| case.reason == outcome.reason());
        assert!(listed || elsewhere, "{}", outcome.reason());
    }
}
