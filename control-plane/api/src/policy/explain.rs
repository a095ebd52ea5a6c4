//! `POST /v1/policy/explain`: the decision on one request, step by step, by the code that gateways run.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::document::draft_document;
use crate::access::Authenticated;
use crate::extract::StrictJson;
use crate::problem::Problem;
use omniflow_api_types::policy::{ExplainRequest, ExplanationJson};
use omniflow_domain::error::Error;
use omniflow_domain::key::KeyReference;
use omniflow_service::policy::Policies;
use omniflow_service::policy::document::Draft;
use omniflow_service::policy::explain::{self, Explain};

/// Explain the decision on a request, step by step.
///
/// Runs the same code as the gateways. The request uses the key in `key`, or the credential in `headers`.
#[utoipa::path(
    post,
    path = "/v1/policy/explain",
    operation_id = "explain_request",
    tag = "policy",
    request_body = ExplainRequest,
    responses(
        (status = 200, body = ExplanationJson, description = "The decision and its steps."),
        (status = 409, description = "`key_not_published`"),
    ),
)]
pub(crate) async fn explain(
    State(policies): State<Arc<Policies>>,
    Authenticated(principal): Authenticated,
    StrictJson(body): StrictJson<ExplainRequest>,
) -> Result<Json<ExplanationJson>, Problem> {
    Ok(Json(policies.explain(&principal, explain_of(body)?).await?.into()))
}

fn explain_of(body: ExplainRequest) -> Result<Explain, Error> {
    let ExplainRequest { key, version, headers, method, path, source_ip, at, calls_before, policy } = body;
    let draft = policy.map(|document| Draft::embedded(draft_document(document), "/policy"));
    Ok(Explain {
        key: key.as_deref().map(KeyReference::from),
        version,
        headers,
        method,
        path,
        source_ip: source_ip.as_deref().map(explain::source_ip).transpose()?,
        at: at.as_deref().map(explain::instant).transpose()?,
        calls_before,
        draft,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use omniflow_policy::digest::Digest;
    use omniflow_policy::policy::PolicyDocument;
    use serde_json::{Value, json};

    use omniflow_test_server::{TestServer, request};

    const TABLE: &str = include_str!("../../../../policy/golden/decisions.json");
    const END: &str = "2027-02-01T00:00:00.000Z";
    const JUST_BEFORE: &str = "2027-01-31T23:59:59.999Z";

    fn document(imported_keys: &Value) -> Value {
        let imported_keys = imported_keys == &json!(true);
        serde_json::to_value(PolicyDocument { imported_keys, ..PolicyDocument::default() }).unwrap()
    }

    /// Creates the key of a case; returns its name and secret.
    async fn make(server: &TestServer, number: usize, key: &Value) -> (String, String) {
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
        let created = server.post("/v1/keys", request).await.expect(StatusCode::CREATED);
        if key["state"] == "revoked" {
            server.post(&format!("/v1/keys/{name}/revoke"), json!({})).await.expect(StatusCode::OK);
        }
        (name, imported.or(created["secret"].as_str()).unwrap().to_owned())
    }

    fn said(explanation: &Value) -> [Value; 4] {
        ["reason", "endpoint", "required_scope", "limit"].map(|field| explanation[field].clone())
    }

    #[tokio::test]
    async fn it_agrees_with_the_filter_on_the_decision_table() {
        let server = TestServer::new().await;
        server.put("/v1/policy", document(&json!(true))).await.expect(StatusCode::OK);
        let cases: Vec<Value> = serde_json::from_str(TABLE).unwrap();
        assert!(cases.len() >= 100);
        for (number, case) in cases.iter().enumerate() {
            let key = match case.get("key") {
                Some(key) => Some(make(&server, number, key).await),
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
            let explanation = server.post("/v1/policy/explain", request.clone()).await.expect(StatusCode::OK);
            let mut expected = said(case);
            if expected[0] != "insufficient_scope" {
                // The required scope is reported even if the key has it.
                expected[2] = explanation["required_scope"].clone();
            }
            assert_eq!(said(&explanation), expected, "{}", case["name"]);
            assert_eq!(explanation["policy_version"], Value::Null);
            let refused: Vec<&Value> = explanation["steps"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|step| step["verdict"] == "refused")
                .collect();
            let reasons: Vec<&Value> = refused.iter().map(|step| &step["reason"]).collect();
            let denied: Vec<&Value> =
                Some(&case["reason"]).into_iter().filter(|reason| **reason != "allowed").collect();
            assert_eq!(reasons, denied, "{}: the step that refuses", case["name"]);
            let text = explanation.to_string();
            assert!(secret.is_empty() || !text.contains(secret), "{}: {text}", case["name"]);

            // By name if the credential led to the key, and no other header counted.
            let by_headers = explanation["key_name"].is_null() || case["reason"] == "method_overridden";
            let (Some((name, _)), false) = (key, by_headers) else { continue };
            request.as_object_mut().unwrap().remove("headers");
            request["key"] = json!(name);
            let by_name = server.post("/v1/policy/explain", request).await.expect(StatusCode::OK);
            assert_eq!(said(&by_name), said(&explanation), "{}: by name", case["name"]);
        }
    }

    #[tokio::test]
    async fn a_version_and_an_instant_can_be_chosen() {
        let server = TestServer::new().await;
        server.key("ci").await;
        server.post("/v1/keys/ci/rotate", json!({"overlap": "1h"})).await.expect(StatusCode::CREATED);
        let evaluate = async |more: Value| {
            let mut request = json!({"key": "ci", "method": "GET", "path": "/api/v1/contacts?q=1"});
            for (name, value) in more.as_object().unwrap() {
                request[name] = value.clone();
            }
            server.post("/v1/policy/explain", request).await.expect(StatusCode::OK)
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
        let server = TestServer::new().await;
        server.key("ci").await;
        let auditor = server.token("auditor").await;
        let evaluate = async |principal: Value| {
            let mut body = json!({"method": "GET", "path": "/api/v1/contacts"});
            body.as_object_mut().unwrap().extend(principal.as_object().unwrap().clone());
            server.call(request(Method::POST, "/v1/policy/explain", &auditor, Some(body))).await
        };
        assert_eq!(evaluate(json!({"key": "ci"})).await.expect(StatusCode::OK)["reason"], "allowed");
        let refused = evaluate(json!({"headers": [["x-api-key", "guess"]]})).await;
        assert_eq!(refused.problem().1, "forbidden");
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let server = TestServer::new().await;
        server.key("ci").await;
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
            let (status, code, field) = server.post("/v1/policy/explain", request).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{more}");
        }
    }
}
