//! The decision table: one list of cases that this crate, natively and as WebAssembly, and the filter inside a real
//! Envoy must decide alike.

use serde::Deserialize;
use uuid::Uuid;
#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::address::Allowlist;
use crate::authorize::{Call, GatewaySettings, KEY_INFO_PATH, authorize};
use crate::credential::present;
use crate::digest::Digest;
use crate::key::{Environment, KeyPrefix, compose_key};
use crate::limit::{LimitDecision, LimitState, RateLimit};
use crate::outcome::{Denial, Outcome};
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

/// What a case comes to: reason, endpoint, the scope that was required, the limit that refused.
type Result = (String, Option<String>, Option<String>, Option<String>);

fn decide(case: &Case) -> Result {
    let mut byte = 0u8;
    let environment = case.key.as_ref().map_or(Environment::Live, |key| key.environment);
    let secret = compose_key(&KeyPrefix::default(), environment, &mut || {
        byte = byte.wrapping_add(37);
        byte
    });
    let credentials = case.key.iter().map(|key| Credential {
        digest: secret.digest(),
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
    });
    let document = PolicyDocument::default();
    let image = Image::build(Uuid::nil(), 1, &document, credentials.collect()).unwrap();
    let policy = Policy::compile(document).unwrap();
    let headers: Vec<(String, String)> = case
        .headers
        .iter()
        .map(|(name, value)| {
            let digest = secret.digest().to_hex();
            (name.clone(), value.replace("{key}", secret.expose()).replace("{digest}", &digest))
        })
        .collect();
    let pairs = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let call = Call {
        credential: present(pairs, policy.key_prefix()),
        method: case.method.as_bytes(),
        target: case.target.as_bytes(),
        source: crate::address::parse_source_address(case.source_ip.as_bytes()),
        now: NOW,
    };
    let settings =
        GatewaySettings { key_info_path: Some(KEY_INFO_PATH.to_owned()), ..GatewaySettings::default() };
    let decision = authorize(&policy, &settings, &call, |digest: &Digest| image.find(digest));
    let endpoint = decision.route.map(|route| route.template.to_owned());
    let required = decision
        .route
        .and_then(|route| route.scope)
        .filter(|_| decision.outcome == Outcome::Denied(Denial::InsufficientScope))
        .map(ToString::to_string);
    let (mut outcome, mut limit) = (decision.outcome, None);
    let charged = decision.credential.filter(|_| outcome == Outcome::Allowed && !decision.asks_about_key);
    if let (Some(credential), Some(key)) = (charged, &case.key) {
        let mut state = LimitState::default();
        for _ in 0..key.calls_before {
            if let LimitDecision::Admitted { state: next, .. } = credential.rate_limit.take(state, MONOTONIC)
            {
                state = next;
            }
        }
        if let LimitDecision::Refused { report, .. } = credential.rate_limit.take(state, MONOTONIC) {
            outcome = Outcome::Denied(Denial::RateLimited);
            limit = Some(report.window.as_str().to_owned());
        }
    }
    (outcome.reason().to_owned(), endpoint, required, limit)
}

#[test]
fn every_case_is_decided_as_the_table_says() {
    let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 60);
    for case in cases {
        let expected =
            (case.reason.clone(), case.endpoint.clone(), case.required_scope.clone(), case.limit.clone());
        assert_eq!(decide(&case), expected, "{}", case.name);
    }
}

#[test]
fn the_table_has_every_reason_that_a_snapshot_can_lead_to() {
    let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
    for outcome in Outcome::all() {
        let elsewhere =
            matches!(outcome, Outcome::PassedThrough | Outcome::Denied(Denial::PolicyUnavailable));
        let listed = cases.iter().any(|case| case.reason == outcome.reason());
        assert!(listed || elsewhere, "{}", outcome.reason());
    }
}
