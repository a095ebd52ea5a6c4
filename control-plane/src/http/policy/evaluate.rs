//! `POST /v1/policy/evaluate`: what becomes of one request, step by step, decided by the code that gateways run.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use omniflow_policy::address::parse_source_address;
use omniflow_policy::authorize::{
    Call, CredentialView, Decision, GatewaySettings, INTROSPECTION_PATH, Request, authorize, authorize_named,
};
use omniflow_policy::credential::find_credential;
use omniflow_policy::explain::explain;
use omniflow_policy::limit::{LimitDecision, LimitState, RateLimit};
use omniflow_policy::outcome::Outcome;
use omniflow_policy::snapshot::Image;
use omniflow_policy::time::{MonotonicNanos, UnixMillis};

use super::document::Draft;
use crate::app::App;
use crate::http::access::Caller;
use crate::http::code::Code;
use crate::http::extract::StrictJson;
use crate::http::problem::Problem;
use crate::json::policy::{EvaluateRequest, Evaluation};
use crate::json::time::parse_time;
use crate::model::key::{Key, KeyVersion};
use crate::storage::KeyReference;

/// The most calls that are counted against the limits before the one that is asked about.
const MAX_CALLS_BEFORE: u32 = 100_000;
/// When these calls were made: any instant will do.
const SOME_INSTANT: MonotonicNanos = MonotonicNanos(1_000_000_000_000);

/// Explains what becomes of one request, step by step, by the code that gateways run.
///
/// The request is one of the key that `key` names, or has its credential in `headers`.
#[utoipa::path(
    post,
    path = "/v1/policy/evaluate",
    operation_id = "evaluate_request",
    tag = "policy",
    request_body = EvaluateRequest,
    responses(
        (status = 200, body = Evaluation, description = "The decision and its steps."),
        (status = 409, description = "`key_not_published`"),
    ),
)]
pub(in crate::http) async fn evaluate(
    State(app): State<Arc<App>>,
    caller: Caller,
    StrictJson(request): StrictJson<EvaluateRequest>,
) -> Result<Json<Evaluation>, Problem> {
    Ok(Json(decide(&app, &caller, request).await?))
}

/// What becomes of one request, step by step.
pub(in crate::http) async fn decide(
    app: &App,
    caller: &Caller,
    request: EvaluateRequest,
) -> Result<Evaluation, Problem> {
    if request.headers.is_some() && !caller.may_write() {
        let detail = "With headers anybody could try out credentials. That takes a token with the role owner or admin; \
                      name the key in key instead.";
        return Err(Problem::forbidden(detail));
    }
    let (current, version) = app.publication.policy()?;
    let (policy, version) = match request.policy {
        Some(draft) => {
            (Arc::new(Draft::embedded(draft, "/policy").compile(current.key_prefix()).await?), None)
        }
        None => (current, Some(version)),
    };
    let target = Request {
        method: request.method.as_bytes(),
        target: request.path.as_bytes(),
        source: source(request.source_ip.as_deref())?,
        now: instant(request.at.as_deref(), app.now())?,
    };
    let settings = default_settings();
    let version_of_key = match &request.key {
        Some(key) => Some(version_of(app, key, request.version, target.now).await?),
        None => None,
    };
    // Behind the key's row, so that the image has it.
    let image = app.publication.image()?;
    let (decision, presented) = match (version_of_key, &request.headers) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid_field(
                "/headers",
                "name a key or send headers with a credential, not both",
            ));
        }
        (Some(version), None) => {
            let credential = credential(&image, &version)?;
            (authorize_named(&policy, &settings, &target, credential, version.imported), None)
        }
        (None, headers) => {
            if request.version.is_some() {
                return Err(Problem::invalid_field(
                    "/version",
                    "a version is one of the key that is named in key",
                ));
            }
            let headers = headers.as_deref().unwrap_or_default();
            let pairs = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let call = Call { credential: find_credential(pairs, policy.key_prefix()), request: target };
            (authorize(&policy, &settings, &call, |digest| image.find(digest)), Some(call.credential))
        }
    };
    let limit = limit(&decision, request.calls_before)?;
    let steps = explain(&policy, presented, &target, &decision, limit.as_ref());
    Ok(Evaluation::new(&decision, limit.as_ref(), version, steps))
}

/// Those of a gateway whose operator has changed nothing.
pub(super) fn default_settings() -> GatewaySettings {
    GatewaySettings { introspection_path: Some(INTROSPECTION_PATH.to_owned()), ..GatewaySettings::default() }
}

fn source(text: Option<&str>) -> Result<Option<IpAddr>, Problem> {
    let wrong = || Problem::invalid_field("/source_ip", "source_ip is an address such as 203.0.113.7");
    text.map(|text| parse_source_address(text.as_bytes()).ok_or_else(wrong)).transpose()
}

fn instant(text: Option<&str>, now: UnixMillis) -> Result<UnixMillis, Problem> {
    let wrong = || Problem::invalid_field("/at", "at is a time such as 2027-01-31T00:00:00Z");
    text.map_or(Ok(now), |text| parse_time(text).ok_or_else(wrong))
}

/// The version of the key that is meant: the stated one, or the newest that is accepted at that instant, or the newest.
async fn version_of(
    app: &App,
    key: &str,
    stated: Option<u16>,
    at: UnixMillis,
) -> Result<KeyVersion, Problem> {
    let no_key =
        || Problem::invalid_field("/key", "no key has this identifier or name: list them with GET /v1/keys");
    let key: Key = app.storage.main.key(&KeyReference::from(key)).await?.ok_or_else(no_key)?;
    let version = match stated {
        Some(stated) => key.versions.iter().find(|version| version.version == stated),
        None => key.newest_accepted(at).or(key.versions.last()),
    };
    version.cloned().ok_or_else(|| Problem::invalid_field("/version", "the key has no such version"))
}

/// The version as gateways hold it.
fn credential<'i>(image: &'i Image, version: &KeyVersion) -> Result<CredentialView<'i>, Problem> {
    // A key is published before its answer is given, but this may have read in between.
    image.find(&version.digest).ok_or_else(|| {
        Problem::new(Code::KeyNotPublished, "The key is being published at this moment. Ask again.")
    })
}

/// What the limits say after so many calls at once; `None` where the caller does not ask for that.
fn limit(decision: &Decision<'_, '_>, before: Option<u32>) -> Result<Option<LimitDecision>, Problem> {
    let Some(before) = before else { return Ok(None) };
    if before > MAX_CALLS_BEFORE {
        let detail = format!("calls_before is at most {MAX_CALLS_BEFORE}");
        return Err(Problem::invalid_field("/calls_before", detail));
    }
    let charged = decision.outcome == Outcome::Allowed && !decision.is_introspection;
    let credential = decision.credential.filter(|_| charged);
    Ok(credential.map(|credential| after(&credential.rate_limit, before)))
}

fn after(rate_limit: &RateLimit, calls: u32) -> LimitDecision {
    let mut state = LimitState::default();
    for _ in 0..calls {
        match rate_limit.charge(state, SOME_INSTANT) {
            LimitDecision::Admitted { state: next, .. } => state = next,
            // A refused call costs nothing: all further ones come to the same.
            refused @ LimitDecision::Refused { .. } => return refused,
        }
    }
    rate_limit.charge(state, SOME_INSTANT)
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use omniflow_policy::digest::Digest;
    use omniflow_policy::policy::PolicyDocument;
    use serde_json::{Value, json};

    use crate::http::testing::{Plane, request};

    const TABLE: &str = include_str!("../../../../policy/golden/decisions.json");
    const END: &str = "2027-02-01T00:00:00.000Z";
    const JUST_BEFORE: &str = "2027-01-31T23:59:59.999Z";

    fn document(imported_keys: &Value) -> Value {
        let imported_keys = imported_keys == &json!(true);
        serde_json::to_value(PolicyDocument { imported_keys, ..PolicyDocument::default() }).unwrap()
    }

    /// Makes the key of a case; gives its name and secret.
    async fn make(plane: &Plane, number: usize, key: &Value) -> (String, String) {
        let name = format!("case-{number}");
        let mut request = json!({
            "name": &name, "environment": key.get("environment").unwrap_or(&json!("live")), "scopes": key["scopes"],
            "rate_limit": key.get("rate_limit"), "ip_allowlist": key.get("ip_allowlist"), "expires_at": null,
        });
        if ["expired", "expiring"].contains(&key["state"].as_str().unwrap_or_default()) {
            request["expires_at"] = json!(END);
        }
        let imported = key["imported_secret"].as_str();
        if let Some(imported) = imported {
            request["digest"] = json!(Digest::of(imported.as_bytes()).to_hex());
        }
        let created = plane.post("/v1/keys", request).await.expect(StatusCode::CREATED);
        if key["state"] == "revoked" {
            plane.post(&format!("/v1/keys/{name}/revoke"), json!({})).await.expect(StatusCode::OK);
        }
        (name, imported.or(created["secret"].as_str()).unwrap().to_owned())
    }

    fn said(evaluation: &Value) -> [Value; 4] {
        ["reason", "endpoint", "required_scope", "limit"].map(|field| evaluation[field].clone())
    }

    #[tokio::test]
    async fn it_agrees_with_the_filter_on_the_decision_table() {
        let plane = Plane::new().await;
        plane.put("/v1/policy", document(&json!(true))).await.expect(StatusCode::OK);
        let cases: Vec<Value> = serde_json::from_str(TABLE).unwrap();
        assert!(cases.len() >= 100);
        for (number, case) in cases.iter().enumerate() {
            let key = match case.get("key") {
                Some(key) => Some(make(&plane, number, key).await),
                None => None,
            };
            let secret = key.as_ref().map_or("", |(_, secret)| secret);
            let digest = Digest::of(secret.as_bytes()).to_hex();
            let headers: Vec<(String, String)> = serde_json::from_value(case["headers"].clone()).unwrap();
            let headers = headers
                .into_iter()
                .map(|(name, value)| (name, value.replace("{key}", secret).replace("{digest}", &digest)));
            let mut request = json!({
                "headers": headers.collect::<Vec<_>>(), "method": case["method"], "path": case["target"],
                "source_ip": case["source_ip"], "calls_before": case["key"]["calls_before"].as_u64().unwrap_or(0),
                "policy": document(&case["imported_keys"]),
                "at": if case["key"]["state"] == "expiring" { JUST_BEFORE } else { END },
            });
            let evaluation = plane.post("/v1/policy/evaluate", request.clone()).await.expect(StatusCode::OK);
            let mut expected = said(case);
            if expected[0] != "insufficient_scope" {
                // What the route needs is told also where the key has it.
                expected[2] = evaluation["required_scope"].clone();
            }
            assert_eq!(said(&evaluation), expected, "{}", case["name"]);
            assert_eq!(evaluation["policy_version"], Value::Null);
            let refused: Vec<&Value> = evaluation["steps"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|step| step["verdict"] == "refused")
                .collect();
            let reasons: Vec<&Value> = refused.iter().map(|step| &step["reason"]).collect();
            let denied: Vec<&Value> =
                Some(&case["reason"]).into_iter().filter(|reason| **reason != "allowed").collect();
            assert_eq!(reasons, denied, "{}: the step that refuses", case["name"]);
            let text = evaluation.to_string();
            assert!(secret.is_empty() || !text.contains(secret), "{}: {text}", case["name"]);

            // By name, where the credential led to the key.
            let (Some((name, _)), false) = (key, evaluation["key_name"].is_null()) else { continue };
            request.as_object_mut().unwrap().remove("headers");
            request["key"] = json!(name);
            let by_name = plane.post("/v1/policy/evaluate", request).await.expect(StatusCode::OK);
            assert_eq!(said(&by_name), said(&evaluation), "{}: by name", case["name"]);
        }
    }

    #[tokio::test]
    async fn a_version_and_an_instant_can_be_chosen() {
        let plane = Plane::new().await;
        plane.key("ci").await;
        plane.post("/v1/keys/ci/rotate", json!({"overlap": "1h"})).await.expect(StatusCode::CREATED);
        let evaluate = async |more: Value| {
            let mut request = json!({"key": "ci", "method": "GET", "path": "/api/v1/contacts?q=1"});
            for (name, value) in more.as_object().unwrap() {
                request[name] = value.clone();
            }
            plane.post("/v1/policy/evaluate", request).await.expect(StatusCode::OK)
        };
        let now = evaluate(json!({})).await;
        assert_eq!(
            (&now["reason"], &now["version_id"], &now["policy_version"]),
            (&json!("allowed"), &json!(2), &json!(1))
        );
        assert_eq!(
            (&now["decision"], &now["status"], &now["limit"]),
            (&json!("allowed"), &json!(null), &json!(null))
        );
        let old = evaluate(json!({"version": 1})).await;
        assert_eq!((&old["reason"], &old["version_id"]), (&json!("allowed"), &json!(1)));
        let later = evaluate(json!({"version": 1, "at": "2027-01-15T09:00:00Z"})).await;
        assert_eq!((&later["reason"], &later["status"]), (&json!("key_expired"), &json!(401)));
        let limited = evaluate(json!({"calls_before": 60})).await;
        assert_eq!((&limited["reason"], &limited["limit"]), (&json!("rate_limited"), &json!("minute")));
    }

    #[tokio::test]
    async fn an_auditor_names_keys_and_tries_no_credentials() {
        let plane = Plane::new().await;
        plane.key("ci").await;
        let auditor = plane.token("auditor").await;
        let evaluate = async |caller: Value| {
            let mut body = json!({"method": "GET", "path": "/api/v1/contacts"});
            body.as_object_mut().unwrap().extend(caller.as_object().unwrap().clone());
            plane.call(request(Method::POST, "/v1/policy/evaluate", &auditor, Some(body))).await
        };
        assert_eq!(evaluate(json!({"key": "ci"})).await.expect(StatusCode::OK)["reason"], "allowed");
        let refused = evaluate(json!({"headers": [["x-api-key", "guess"]]})).await;
        assert_eq!(refused.problem().1, "forbidden");
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let plane = Plane::new().await;
        plane.key("ci").await;
        for (more, expected) in [
            (json!({"key": "nobody"}), (422, "invalid_field", "/key")),
            (json!({"version": 2}), (422, "invalid_field", "/version")),
            (json!({"headers": []}), (422, "invalid_field", "/headers")),
            (json!({"key": null, "version": 1}), (422, "invalid_field", "/version")),
            (json!({"source_ip": "here"}), (422, "invalid_field", "/source_ip")),
            (json!({"at": "now"}), (422, "invalid_field", "/at")),
            (json!({"calls_before": 100_001}), (422, "invalid_field", "/calls_before")),
            (json!({"calls_before": -1}), (400, "invalid_json", "/calls_before")),
            (
                json!({"policy": {"scopes": [], "routes": [{"path": "x", "methods": ["any"], "scope": "a:b"}]}}),
                (422, "invalid_field", "/policy/routes/0/path"),
            ),
            (json!({"more": 1}), (400, "invalid_json", "/more")),
        ] {
            let mut request = json!({"key": "ci", "method": "GET", "path": "/api/v1/contacts"});
            for (name, value) in more.as_object().unwrap() {
                request[name] = value.clone();
            }
            let (status, code, field) = plane.post("/v1/policy/evaluate", request).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{more}");
        }
    }
}
