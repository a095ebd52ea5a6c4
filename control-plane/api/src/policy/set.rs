//! `PUT /v1/policy` sets routes and scopes. `POST /v1/policy/rollback` sets those of an earlier version again.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;

use super::document::DraftBody;
use super::in_json;
use crate::access::Authenticated;
use crate::extract::{StrictJson, StrictQuery};
use crate::params::IfMatch;
use crate::precondition::Conditional;
use crate::problem::Problem;
use crate::query::WaitQuery;
use omniflow_api_types::policy::{PolicyJson, RollBack, SetPolicy};
use omniflow_service::policy::{Policies, roll_back, set};

/// Set the policy, in JSON or TOML.
///
/// `key_prefix` may be omitted and cannot be changed. A document that is equal to the effective one does not create a
/// new version.
#[utoipa::path(
    put,
    path = "/v1/policy",
    operation_id = "set_policy",
    tag = "policy",
    params(WaitQuery, IfMatch),
    request_body(content((SetPolicy = "application/json"), (String = "application/toml"))),
    responses(
        (status = 200, body = PolicyJson, description = "The effective policy.", headers(("ETag" = String))),
        (status = 409, description = "`scope_in_use`, `imports_in_use`"),
    ),
)]
pub(crate) async fn set(
    State(policies): State<Arc<Policies>>,
    Authenticated(principal): Authenticated,
    Conditional(precondition): Conditional,
    StrictQuery(query): StrictQuery<WaitQuery>,
    DraftBody(draft): DraftBody,
) -> Result<impl IntoResponse, Problem> {
    let wait = query.parse()?;
    let request = set::SetPolicy { draft, precondition, wait };
    Ok(in_json(policies.set(&principal, request).await?))
}

/// Roll back to an earlier version of the policy.
///
/// Publishes the document of that version as a new version.
#[utoipa::path(
    post,
    path = "/v1/policy/rollback",
    operation_id = "roll_back_policy",
    tag = "policy",
    params(WaitQuery, IfMatch),
    request_body = RollBack,
    responses(
        (status = 200, body = PolicyJson, description = "The effective policy.", headers(("ETag" = String))),
        (status = 409, description = "`scope_in_use`, `imports_in_use`"),
    ),
)]
pub(crate) async fn roll_back(
    State(policies): State<Arc<Policies>>,
    Authenticated(principal): Authenticated,
    Conditional(precondition): Conditional,
    StrictQuery(query): StrictQuery<WaitQuery>,
    StrictJson(body): StrictJson<RollBack>,
) -> Result<impl IntoResponse, Problem> {
    let wait = query.parse()?;
    let request = roll_back::RollBack { version: body.version, precondition, wait };
    Ok(in_json(policies.roll_back(&principal, request).await?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Method, Request, StatusCode, header};
    use omniflow_policy::key::KeyPrefix;
    use omniflow_policy::policy::PolicyDocument;
    use omniflow_policy::snapshot::Delta;
    use serde_json::{Value, json};

    use crate::policy::document::BODY_LIMIT;
    use omniflow_service::policy::document::Draft;
    use omniflow_service::publication::Offer;
    use omniflow_test_server::{Answer, START, TestServer, request, send};

    /// The table of the demo and one more service: keys of the demo stay as they are.
    fn shop() -> Value {
        let mut document = serde_json::to_value(PolicyDocument::default()).unwrap();
        let scope = json!({"name": "orders:read", "description": "Read orders"});
        document["scopes"].as_array_mut().unwrap().push(scope);
        let route = json!({"path": "/shop/orders/{id}", "methods": ["read"], "scope": "orders:read"});
        document["routes"].as_array_mut().unwrap().push(route);
        document
    }

    fn without_scope(name: &str) -> Value {
        let mut document = shop();
        document["scopes"].as_array_mut().unwrap().retain(|scope| scope["name"] != name);
        document["routes"].as_array_mut().unwrap().retain(|route| route["scope"] != name);
        document
    }

    fn delta(server: &TestServer, version: u64) -> Delta {
        let offer = server
            .app
            .publisher
            .publication
            .offer(Some(server.app.publisher.installation.id), (version, 0, 0), server.app.now())
            .unwrap();
        let Offer::Delta(delta) = offer else { panic!("a delta leads on from {version}") };
        delta
    }

    async fn put_if(server: &TestServer, if_match: &[&str], document: Value) -> Answer {
        let mut call = request(Method::PUT, "/v1/policy", &server.owner, Some(document));
        for value in if_match {
            call.headers_mut().append(header::IF_MATCH, value.parse().unwrap());
        }
        server.call(call).await
    }

    /// Nothing was published, and nothing was stored.
    async fn assert_unchanged(server: &TestServer, policy: u64, snapshot: u64) {
        assert_eq!(server.app.publisher.publication.version().unwrap(), snapshot);
        assert_eq!(server.app.publisher.publication.policy().unwrap().1, policy);
        assert_eq!(server.app.store.policy().await.unwrap().version, policy);
    }

    #[tokio::test]
    async fn set_policy_is_published_and_stored() {
        let server = TestServer::new().await;
        server.key("ci").await;
        let order = json!({"name": "shop", "environment": "live", "scopes": ["orders:read"]});
        assert_eq!(server.post("/v1/keys", order.clone()).await.problem().2, "/scopes/0");
        let mut image = (*server.app.publisher.publication.image().unwrap()).clone();
        let held = image.manifest().version;
        server.pass(Duration::from_secs(1));

        let answer = server.put("/v1/policy", shop()).await;
        assert_eq!(answer.headers[header::ETAG], "\"2\"");
        let set = answer.expect(StatusCode::OK);
        assert_eq!(set, json!({"version": 2, "document": shop()}));
        let shown = server.get("/v1/policy").await;
        assert_eq!(shown.headers[header::ETAG], "\"2\"");
        assert_eq!(shown.expect(StatusCode::OK), set);
        let stored = server.app.store.policy().await.unwrap();
        assert_eq!((stored.created_by.as_str(), stored.created_at.0), ("owner", START + 1_000));

        // A gateway that is behind receives the policy, and then the key that was created after it.
        server.post("/v1/keys", order).await.expect(StatusCode::CREATED);
        let policy = delta(&server, held);
        assert_eq!(serde_json::from_str::<Value>(policy.policy.as_ref().unwrap()).unwrap(), shop());
        let key = delta(&server, policy.to);
        assert_eq!((policy.changes.len(), key.policy.is_none(), key.changes.len()), (0, true, 1));
        for delta in [policy, key] {
            image = image.apply(&Delta::decode(&delta.encode()).unwrap()).unwrap();
        }
        let published = server.app.publisher.publication.image().unwrap();
        assert_eq!(image.manifest(), published.manifest());

        let server = server.restart().await;
        assert_eq!(server.get("/v1/policy").await.expect(StatusCode::OK), set);
        assert_eq!(server.app.publisher.publication.image().unwrap().manifest(), published.manifest());
    }

    #[tokio::test]
    async fn a_waiting_poll_gets_the_policy() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let held = server.app.publisher.publication.version().unwrap();
        let body = json!({
            "gateway": "edge", "incarnation": "000000000000000a", "filter_version": "0.1.0", "snapshot_format": 1,
            "installation": server.app.publisher.installation.id, "version": held, "wait_ms": 25_000, "clock": 1_800_000_000_000_u64,
            "vms": [{"id": "0000000000000001", "version": held}],
        });
        let call = request(Method::POST, "/gateway/v1/poll", &token, Some(body));
        let waiting = tokio::spawn(send(server.router.clone(), call));
        server.until_connected(&waiting).await;
        let answer = server.put("/v1/policy?wait=1ms", shop()).await.expect(StatusCode::OK);
        assert_eq!(answer["enforcement"]["complete"], false);
        assert_eq!(answer["enforcement"]["gateways"][0]["id"], "edge/000000000000000a");
        let delta = Delta::decode(&waiting.await.unwrap().body).unwrap();
        assert_eq!((delta.from, json!(delta.to)), (held, answer["enforcement"]["version"].clone()));
        assert!(delta.policy.unwrap().contains("/shop/orders/{id}"));
        assert!(delta.changes.is_empty());
    }

    #[tokio::test]
    async fn the_same_document_is_no_new_version() {
        let server = TestServer::new().await;
        let snapshot = server.app.publisher.publication.version().unwrap();
        let same = serde_json::to_value(PolicyDocument::default()).unwrap();
        let mut silent = same.clone();
        silent.as_object_mut().unwrap().remove("key_prefix");
        for document in [same, silent] {
            let answer = server.put("/v1/policy?wait=0s", document).await;
            assert_eq!(answer.headers[header::ETAG], "\"1\"");
            let answer = answer.expect(StatusCode::OK);
            assert_eq!(answer["version"], 1);
            assert_eq!(answer["enforcement"], json!({"complete": true, "version": snapshot, "gateways": []}));
        }
        assert_unchanged(&server, 1, snapshot).await;
    }

    #[tokio::test]
    async fn the_prefix_of_keys_stays() {
        let server = TestServer::new().await;
        let snapshot = server.app.publisher.publication.version().unwrap();
        let mut document = shop();
        document["key_prefix"] = json!("acme");
        let answer = server.put("/v1/policy", document.clone()).await;
        assert_eq!(answer.problem(), (422, "invalid_field".to_owned(), "/key_prefix".to_owned()));
        assert!(answer.json()["detail"].as_str().unwrap().contains("begin with omf"));
        assert_unchanged(&server, 1, snapshot).await;
        document.as_object_mut().unwrap().remove("key_prefix");
        let acme = KeyPrefix::parse("acme").unwrap();
        let document = serde_json::from_value(document).unwrap();
        let policy = Draft::embedded(document, "").compile(&acme).await.map_err(|_| "refused").unwrap();
        assert_eq!(policy.key_prefix().as_str(), "acme", "one that is not stated is the one that there is");
    }

    #[tokio::test]
    async fn a_scope_that_keys_have_stays() {
        let server = TestServer::new().await;
        let snapshot = server.app.publisher.publication.version().unwrap();
        let fewer = without_scope("contacts:read");
        for number in 0..7 {
            server.key(&format!("key {number}")).await;
            server.pass(Duration::from_millis(1));
        }
        let detail = async || {
            let answer = server.put("/v1/policy", fewer.clone()).await;
            assert_eq!(answer.problem(), (409, "scope_in_use".to_owned(), String::new()));
            assert_eq!(server.app.store.policy().await.unwrap().version, 1);
            answer.json()["detail"].as_str().unwrap().to_owned()
        };
        let reported = detail().await;
        assert!(
            reported.contains("contacts:read (key 6, key 5, key 4, key 3, key 2 and others)."),
            "{reported}"
        );
        for number in [6, 5] {
            server.post(&format!("/v1/keys/key {number}/revoke").replace(' ', "%20"), json!({})).await;
        }
        let reported = detail().await;
        assert!(reported.contains("contacts:read (key 4, key 3, key 2, key 1, key 0)."), "{reported}");
        for number in [4, 3, 2, 1] {
            let path = format!("/v1/keys/key%20{number}");
            server.patch(&path, json!({"scopes": ["contacts:write"]})).await.expect(StatusCode::OK);
        }
        // An expired key can be prolonged, so it counts.
        server
            .patch("/v1/keys/key%200", json!({"expires_at": "2027-01-15T08:00:02Z"}))
            .await
            .expect(StatusCode::OK);
        server.pass(Duration::from_secs(3));
        assert!(detail().await.contains("contacts:read (key 0)."));
        server.post("/v1/keys/key%200/revoke", json!({})).await.expect(StatusCode::OK);
        assert!(server.app.publisher.publication.version().unwrap() > snapshot);
        let set = server.put("/v1/policy", fewer).await.expect(StatusCode::OK);
        assert_eq!(set["version"], 2);
        let gone = json!({"name": "x", "environment": "live", "scopes": ["contacts:read"]});
        assert_eq!(server.post("/v1/keys", gone).await.problem().2, "/scopes/0");
    }

    #[tokio::test]
    async fn only_the_version_that_was_read_is_replaced() {
        let server = TestServer::new().await;
        let snapshot = server.app.publisher.publication.version().unwrap();
        for stale in [&["\"2\""][..], &["1"], &["W/\"1\""], &[""], &["\"0\", \"2\"", "\"3\""]] {
            let answer = put_if(&server, stale, shop()).await;
            assert_eq!(answer.problem(), (412, "version_mismatch".to_owned(), String::new()), "{stale:?}");
        }
        assert_unchanged(&server, 1, snapshot).await;
        assert_eq!(put_if(&server, &["\"1\""], shop()).await.expect(StatusCode::OK)["version"], 2);
        assert_eq!(put_if(&server, &["\"1\""], shop()).await.problem().0, 412, "also where nothing changes");
        let next = without_scope("agents:read");
        assert_eq!(put_if(&server, &["\"1\", \"2\""], next).await.expect(StatusCode::OK)["version"], 3);
        assert_eq!(put_if(&server, &["*"], shop()).await.expect(StatusCode::OK)["version"], 4);
    }

    #[tokio::test]
    async fn what_is_wrong_is_named_and_changes_nothing() {
        let server = TestServer::new().await;
        let snapshot = server.app.publisher.publication.version().unwrap();
        let with_route = |route: Value| {
            let mut document = shop();
            document["routes"][0] = route;
            document
        };
        for (document, expected) in [
            (
                with_route(json!({"path": "x", "methods": ["any"], "scope": "orders:read"})),
                (422, "invalid_field", "/routes/0/path"),
            ),
            (
                with_route(json!({"path": "/x", "methods": [], "scope": "orders:read"})),
                (422, "invalid_field", "/routes/0/methods"),
            ),
            (
                with_route(json!({"path": "/x", "methods": ["any"], "scope": "nothing:read"})),
                (422, "invalid_field", "/routes/0/scope"),
            ),
            (
                with_route(json!({"path": "/x", "methods": ["get"], "scope": "orders:read"})),
                (400, "invalid_json", "/routes/0/methods/0"),
            ),
            (
                with_route(json!({"path": "/x", "methods": ["any"], "scope": "orders:read", "more": 1})),
                (400, "invalid_json", "/routes/0/more"),
            ),
            (
                json!({"scopes": [{"name": "a:b", "description": "x".repeat(1025)}], "routes": []}),
                (422, "invalid_field", "/scopes/0/description"),
            ),
            (json!({"scopes": []}), (400, "invalid_json", "")),
            (json!({"version": 1, "document": {}}), (400, "invalid_json", "/document")),
            (json!({"key_prefix": "A", "scopes": [], "routes": []}), (400, "invalid_json", "/key_prefix")),
        ] {
            let (status, code, field) = server.put("/v1/policy", document.clone()).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{document}");
        }
        let raw = Request::put("/v1/policy")
            .header(header::AUTHORIZATION, format!("Bearer {}", server.owner))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from("{\n \"scopes\": [],,\n}"))
            .unwrap();
        let answer = server.call(raw).await;
        assert_eq!(answer.problem().1, "invalid_json");
        assert!(answer.json()["detail"].as_str().unwrap().contains("line 2 column"), "{answer:?}");
        assert_eq!(server.put("/v1/policy?wait=31s", shop()).await.problem().2, "wait");
        assert_eq!(server.put("/v1/policy?dry=1", shop()).await.problem().1, "invalid_query");
        let mut long = shop();
        long["scopes"][0]["description"] = json!("x".repeat(BODY_LIMIT));
        assert_eq!(server.put("/v1/policy", long).await.problem().1, "body_too_large");
        assert_unchanged(&server, 1, snapshot).await;
    }
}
