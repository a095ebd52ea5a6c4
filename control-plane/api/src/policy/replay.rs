//! `POST /v1/policy/replay`: the decisions that a draft would have made on recorded calls.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::document::DraftBody;
use crate::extract::StrictQuery;
use crate::problem::Problem;
use omniflow_api_types::parameters::Parser;
use omniflow_api_types::policy::{ReplayJson, SetPolicy};
use omniflow_api_types::schema;
use omniflow_domain::key::KeyReference;
use omniflow_service::policy::Policies;
use omniflow_service::policy::replay::ReplayCalls;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReplayQuery {
    /// Only calls with the key that has this identifier, or had this name at the time of the call.
    key: Option<String>,
    /// Only calls that began at or after this time.
    #[param(value_type = Option<schema::Instant>)]
    from: Option<String>,
    /// Only calls that began before this time.
    #[param(value_type = Option<schema::Instant>)]
    to: Option<String>,
}

/// Test a draft against recorded calls.
#[utoipa::path(
    post,
    path = "/v1/policy/replay",
    operation_id = "replay_calls",
    tag = "policy",
    params(ReplayQuery),
    request_body(content((SetPolicy = "application/json"), (String = "application/toml"))),
    responses(
        (status = 200, body = ReplayJson, description = "Number of calls by result, and the calls whose decision would change."),
    ),
)]
pub(crate) async fn replay(
    State(policies): State<Arc<Policies>>,
    StrictQuery(query): StrictQuery<ReplayQuery>,
    DraftBody(draft): DraftBody,
) -> Result<Json<ReplayJson>, Problem> {
    let mut parser = Parser::default();
    let calls = ReplayCalls {
        draft,
        key: Parser::text(query.key).as_deref().map(KeyReference::from),
        from: parser.time("from", query.from),
        to: parser.time("to", query.to),
    };
    Ok(Json(policies.replay(parser.finish(calls)?).await?.into()))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::audit::AuditRecord;
    use omniflow_policy::denial::{Denial, Outcome};
    use omniflow_policy::policy::PolicyDocument;
    use serde_json::{Value, json};

    use omniflow_test_server::{START, TestServer, record};

    fn call(key: &Value, method: &str, path: &str, outcome: Outcome) -> AuditRecord {
        let id = key["key"]["id"].as_str().unwrap().parse().unwrap();
        let record = record(0, START, Some((id, key["key"]["name"].as_str().unwrap())));
        AuditRecord { method: method.to_owned(), path: path.to_owned(), outcome, ..record }
    }

    /// The policy of the demo where contacts are read with another scope, and agents written too.
    fn draft() -> Value {
        let mut document = serde_json::to_value(PolicyDocument::default()).unwrap();
        for route in document["routes"].as_array_mut().unwrap() {
            if route["scope"] == "contacts:read" {
                route["scope"] = json!("tickets:read");
            }
            if route["path"] == "/api/v1/agents" {
                route["methods"] = json!(["any"]);
            }
        }
        document
    }

    /// A policy with these paths, all with the same scope and, if it has one, without the parameter `email`.
    fn contacts_policy(paths: &[&str]) -> Value {
        let route = |path: &&str| {
            let redact: &[&str] = if path.contains("{email}") { &["email"] } else { &[] };
            json!({"path": path, "methods": ["any"], "scope": "contacts:read", "redact": redact})
        };
        let routes: Vec<Value> = paths.iter().map(route).collect();
        json!({"scopes": [{"name": "contacts:read"}], "routes": routes})
    }

    #[tokio::test]
    async fn redacted_paths_are_stored_and_replayed_without_their_parameters() {
        let server = TestServer::new().await;
        let gateway = server.token("gateway").await;
        let key = server.key("contacts").await;
        let policy = contacts_policy(&["/contacts/{email}", "/contacts/{email}/notes/{id}", "/all"]);
        server.put("/v1/policy", policy).await.expect(StatusCode::OK);
        // A gateway with an earlier policy records the whole path. Of a key in Base64 it always does.
        let encoded = "b21mX2xpdmVfYTFCMmExQjJhMUIyYTFCMmExQjJhMUIyYTFCMg";
        let mut records = vec![
            call(&key, "GET", "/contacts/zoe@example.com", Outcome::Allowed),
            call(&key, "GET", "/contacts/zoe@example.com/notes/7", Outcome::Allowed),
            call(&key, "GET", "/contacts/zoe@example.com/", Outcome::Denied(Denial::RouteNotMapped)),
            call(&key, "GET", &format!("/all/{encoded}"), Outcome::Allowed),
        ];
        for (record, number) in records.iter_mut().zip(0..) {
            record.sequence = number;
        }
        records[0].endpoint = Some("/contacts/{email}".to_owned());
        records[1].endpoint = Some("/contacts/{email}/notes/{id}".to_owned());
        records[2].endpoint = None;
        server.deliver(&gateway, records).await;
        let list = server.get("/v1/audit").await.expect(StatusCode::OK);
        let mut paths: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/all/***", "/contacts/***", "/contacts/***", "/contacts/***/notes/7"]);

        let counts = |answer: &Value| {
            let count = |name: &str| answer[name].as_u64().unwrap();
            (count("still_allowed"), count("newly_refused"), count("not_replayable"))
        };
        let draft = contacts_policy(&["/contacts/{email}", "/all"]);
        let answer = server.post("/v1/policy/replay", draft).await.expect(StatusCode::OK);
        assert_eq!(counts(&answer), (1, 1, 1), "{answer}");
        // The redacted value may have been `me`.
        let draft = contacts_policy(&["/contacts/{email}", "/contacts/me", "/contacts/{email}/notes/{id}"]);
        let answer = server.post("/v1/policy/replay", draft).await.expect(StatusCode::OK);
        assert_eq!(counts(&answer), (1, 0, 2), "{answer}");
        let request = json!({"method": "GET", "path": "/contacts/zoe@example.com", "key": "contacts"});
        let answer = server.post("/v1/policy/explain", request).await.expect(StatusCode::OK);
        assert!(
            !answer.to_string().contains("zoe") && answer.to_string().contains("/contacts/***"),
            "{answer}"
        );
    }

    /// Delivers calls with two keys, `contacts` and `agents`, and one without a key.
    async fn deliver_calls(server: &TestServer) {
        let gateway = server.token("gateway").await;
        let contacts = server.key("contacts").await;
        let body = json!({"name": "agents", "environment": "live", "scopes": ["agents:read"]});
        let agents = server.post("/v1/keys", body).await.expect(StatusCode::CREATED);
        let denied = Outcome::Denied;
        let mut records = vec![
            call(&contacts, "GET", "/api/v1/contacts", Outcome::Allowed),
            call(&contacts, "GET", "/api/v1/contacts/7", Outcome::Allowed),
            call(&contacts, "GET", "/api/v1/contacts/8", Outcome::Allowed),
            call(&contacts, "GET", "/api/v1/contacts/9", denied(Denial::RateLimited)),
            call(&contacts, "GET", "/api/v1/tickets", denied(Denial::InsufficientScope)),
            call(&agents, "GET", "/api/v1/agents", Outcome::Allowed),
            call(&agents, "POST", "/api/v1/agents", denied(Denial::RouteNotMapped)),
            call(&agents, "POST", "/api/v1/agents/7", denied(Denial::RouteNotMapped)),
            call(&agents, "GET", "/api//v1/agents", denied(Denial::AmbiguousPath)),
            call(&agents, "GET", "/api/v1/agents", denied(Denial::KeyRevoked)),
            call(&agents, "GET", "/api/v1/agents/omf_live_***", Outcome::Allowed),
            record(0, START, None),
        ];
        for (record, number) in records.iter_mut().zip(0..) {
            record.sequence = number;
        }
        server.deliver(&gateway, records).await;
    }

    #[tokio::test]
    async fn every_call_is_counted_once_and_rightly() {
        let server = TestServer::new().await;
        deliver_calls(&server).await;
        let answer = server.post("/v1/policy/replay", draft()).await.expect(StatusCode::OK);
        let counts = [
            ("calls", 12),
            ("still_allowed", 1),
            ("still_refused", 3),
            ("newly_refused", 3),
            ("newly_allowed", 1),
            ("unaffected", 3),
            ("not_replayable", 1),
            ("keys_newly_refused", 1),
            ("keys_newly_allowed", 1),
            ("policy_version", 1),
        ];
        for (name, expected) in counts {
            assert_eq!(answer[name], expected, "{name}: {answer}");
        }
        assert_eq!(
            (&answer["complete"], &answer["oldest"]),
            (&json!(true), &json!("2027-01-15T08:00:00.000Z"))
        );
        let reported: Vec<_> = answer["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| {
                let field = |name: &str| change[name].as_str().unwrap_or("-").to_owned();
                (
                    field("key_name"),
                    field("method"),
                    field("endpoint"),
                    field("before"),
                    field("after"),
                    change["calls"].as_u64().unwrap(),
                )
            })
            .collect();
        let one = |key: &str, method: &str, endpoint: &str, before: &str, after: &str, calls: u64| {
            (
                key.to_owned(),
                method.to_owned(),
                endpoint.to_owned(),
                before.to_owned(),
                after.to_owned(),
                calls,
            )
        };
        assert_eq!(
            reported,
            [
                one("contacts", "GET", "/api/v1/contacts/{id}", "allowed", "insufficient_scope", 2),
                one("agents", "POST", "/api/v1/agents", "route_not_mapped", "allowed", 1),
                one("contacts", "GET", "/api/v1/contacts/{id}", "rate_limited", "insufficient_scope", 1),
                one("contacts", "GET", "/api/v1/contacts", "allowed", "insufficient_scope", 1),
            ]
        );
        let newest = answer["changes"][0]["newest_record"].as_str().unwrap();
        let record = server.get(&format!("/v1/audit/{newest}")).await.expect(StatusCode::OK);
        assert_eq!(record["path"], "/api/v1/contacts/8");
        assert_eq!(answer["changes"][0]["newest_path"], "/api/v1/contacts/8");

        let one = server.post("/v1/policy/replay?key=agents", draft()).await.expect(StatusCode::OK);
        assert_eq!(
            (&one["calls"], &one["newly_allowed"], &one["newly_refused"]),
            (&json!(6), &json!(1), &json!(0))
        );
        let none =
            server.post("/v1/policy/replay?to=2027-01-15T08:00:00Z", draft()).await.expect(StatusCode::OK);
        assert_eq!((&none["calls"], &none["oldest"]), (&json!(0), &Value::Null));
        // A key that was revoked in the meantime is refused, whatever the policy allows.
        server.post("/v1/keys/contacts/revoke", json!({})).await.expect(StatusCode::OK);
        let revoked = server.post("/v1/policy/replay", draft()).await.expect(StatusCode::OK);
        assert_eq!((&revoked["newly_refused"], &revoked["unaffected"]), (&json!(0), &json!(8)));
        let same = serde_json::to_value(PolicyDocument::default()).unwrap();
        let same = server.post("/v1/policy/replay", same).await.expect(StatusCode::OK);
        assert_eq!(same["changes"], json!([]), "the effective policy changes nothing");
        assert_eq!(server.get("/v1/policy").await.expect(StatusCode::OK)["version"], 1);
    }

    #[tokio::test]
    async fn a_draft_that_takes_no_imported_keys_refuses_their_calls() {
        let server = TestServer::new().await;
        let gateway = server.token("gateway").await;
        let document = |imported_keys: bool| {
            serde_json::to_value(PolicyDocument { imported_keys, ..PolicyDocument::default() }).unwrap()
        };
        server.put("/v1/policy", document(true)).await.expect(StatusCode::OK);
        let body = json!({"name": "moved", "environment": "live", "scopes": ["contacts:read"], "digest": "0".repeat(64)});
        let moved = server.post("/v1/keys", body).await.expect(StatusCode::CREATED);
        server.deliver(&gateway, vec![call(&moved, "GET", "/api/v1/contacts", Outcome::Allowed)]).await;

        let answer = server.post("/v1/policy/replay", document(false)).await.expect(StatusCode::OK);
        assert_eq!(
            (&answer["newly_refused"], &answer["changes"][0]["after"]),
            (&json!(1), &json!("malformed_key"))
        );
        assert_eq!(answer["blocked_by"][0]["code"], "imports_in_use");
        let diff = server.post("/v1/policy/diff", document(false)).await.expect(StatusCode::OK);
        assert_eq!(diff["blocked_by"], answer["blocked_by"]);
        let evaluate =
            json!({"key": "moved", "method": "GET", "path": "/api/v1/contacts", "policy": document(false)});
        let evaluation = server.post("/v1/policy/explain", evaluate).await.expect(StatusCode::OK);
        assert_eq!(
            (&evaluation["reason"], &evaluation["steps"][0]["verdict"]),
            (&json!("malformed_key"), &json!("refused"))
        );
        assert!(evaluation["steps"][0]["detail"].as_str().unwrap().contains("imported_keys"), "{evaluation}");

        let set = server.put("/v1/policy", document(false)).await;
        assert_eq!(set.problem().1, "imports_in_use");
        assert!(set.json()["detail"].as_str().unwrap().contains("imported keys: moved."), "{set:?}");
        // A version of this installation replaces it, and the imported one is revoked.
        server.post("/v1/keys/moved/rotate", json!({})).await.expect(StatusCode::CREATED);
        assert_eq!(server.put("/v1/policy", document(false)).await.problem().1, "imports_in_use");
        server.post("/v1/keys/moved/versions/1/revoke", json!({})).await.expect(StatusCode::OK);
        server.put("/v1/policy", document(false)).await.expect(StatusCode::OK);
    }
}
