//! Gateways that may still be serving requests, and the tokens that they may use, tested through the API.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use omniflow_test_server::{Answer, START, TestServer, record, request};

/// A run of a gateway, by its name and number.
#[derive(Clone, Copy)]
struct Run(&'static str, u64);

impl Run {
    fn body(self, server: &TestServer, wait_ms: u64) -> Value {
        let version = server.app.publisher.publication.version().unwrap();
        json!({
            "gateway": self.0, "incarnation": format!("{:016x}", self.1), "filter_version": "0.1.0",
            "snapshot_format": 1, "installation": server.app.publisher.installation.id, "version": version,
            "wait_ms": wait_ms, "clock": START, "vms": [{"id": "0000000000000001", "version": version}],
        })
    }

    /// Reports that it enforces the published version.
    async fn poll(self, server: &TestServer, token: &str) -> Answer {
        let body = self.body(server, 0);
        server.call(request(Method::POST, "/gateway/v1/poll", token, Some(body))).await
    }

    async fn report(self, server: &TestServer, token: &str) -> Answer {
        let mut body = self.body(server, 0);
        for field in ["filter_version", "snapshot_format", "version", "wait_ms", "clock"] {
            body.as_object_mut().unwrap().remove(field);
        }
        server.call(request(Method::POST, "/gateway/v1/enforced", token, Some(body))).await
    }
}

async fn gateway_token(server: &TestServer, fields: Value) -> String {
    let mut body = json!({"role": "gateway"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let created = server.post("/v1/tokens", body).await.expect(StatusCode::CREATED);
    created["secret"].as_str().unwrap().to_owned()
}

/// Creates and revokes a key, and returns whether all gateways enforce that, with the state of each.
async fn revoke(server: &TestServer, name: &str) -> (bool, Vec<String>) {
    server.key(name).await;
    let path = format!("/v1/keys/{name}/revoke?wait=10ms");
    let answer = server.post(&path, json!({})).await.expect(StatusCode::OK);
    let gateways = answer["enforcement"]["gateways"].as_array().unwrap();
    let state = |gateway: &Value| gateway["state"].as_str().unwrap().to_owned();
    (answer["enforcement"]["complete"] == true, gateways.iter().map(state).collect())
}

#[tokio::test]
async fn gateway_whose_token_expired_is_named_and_not_enforcing() {
    let server = TestServer::new().await;
    let end = "2027-01-15T08:00:30.000Z";
    let token = gateway_token(&server, json!({"name": "edge", "expires_at": end})).await;
    let run = Run("edge", 1);
    assert_eq!(run.poll(&server, &token).await.status, StatusCode::NO_CONTENT);
    let list = server.get("/v1/gateways").await.expect(StatusCode::OK);
    assert_eq!(list["items"][0]["token_expires_at"], end);
    assert_eq!(server.metric("omf_gateways_with_expiring_token").await, Some(1.0));
    server.pass(Duration::from_secs(30));
    assert_eq!(revoke(&server, "a").await, (false, vec!["token_expired".to_owned()]), "within its lease");
    for day in 1..=3 {
        server.pass(Duration::from_secs(86_000));
        assert_eq!(run.poll(&server, &token).await.status, StatusCode::UNAUTHORIZED);
        let expected = (false, vec!["token_expired".to_owned()]);
        assert_eq!(revoke(&server, &format!("day-{day}")).await, expected, "it still calls");
    }
    assert_eq!(server.metric("omf_gateways{state=\"token_expired\"}").await, Some(1.0));
}

#[tokio::test]
async fn gateway_whose_token_was_revoked_is_named_after_a_restart_too() {
    let server = TestServer::new().await;
    let token = gateway_token(&server, json!({"name": "edge"})).await;
    let run = Run("edge", 1);
    run.poll(&server, &token).await;
    let path = server.path_of_token("edge").await;
    assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
    let expected = (false, vec!["token_revoked".to_owned()]);
    assert_eq!(revoke(&server, "a").await, expected);
    server.app.fleet.memorise(&*server.app.store).await.unwrap();
    let server = server.restart().await;
    for name in ["b", "c"] {
        server.pass(Duration::from_secs(86_000));
        assert_eq!(run.poll(&server, &token).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(revoke(&server, name).await, expected);
    }
}

#[tokio::test]
async fn restarted_gateway_is_listed_once() {
    let server = TestServer::new().await;
    let token = gateway_token(&server, json!({"name": "edge"})).await;
    let poll = Run("edge", 1).body(&server, 25_000);
    let call = request(Method::POST, "/gateway/v1/poll", &token, Some(poll));
    let waiting = tokio::spawn(omniflow_test_server::send(server.router.clone(), call));
    server.until_connected(&waiting).await;
    server.pass(Duration::from_secs(1));
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled(), "its connection ends");
    server.pass(Duration::from_secs(1));
    Run("edge", 2).poll(&server, &token).await;
    let list = server.get("/v1/gateways").await.expect(StatusCode::OK);
    let ids: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|gateway| &gateway["id"]).collect();
    assert_eq!(ids, ["edge/0000000000000002"]);
}

#[tokio::test]
async fn forged_acknowledgements_are_refused_and_counted() {
    let server = TestServer::new().await;
    let own = gateway_token(&server, json!({"name": "edge-1"})).await;
    let other = gateway_token(&server, json!({"name": "edge-2", "gateways": ["edge-2", "eu-*"]})).await;
    let unbound = gateway_token(&server, json!({"name": "any"})).await;
    let run = Run("edge-1", 1);
    run.poll(&server, &own).await;
    for (token, code) in [(&other, "gateway_not_permitted"), (&unbound, "gateway_of_other_token")] {
        for answer in [run.poll(&server, token).await, run.report(&server, token).await] {
            assert_eq!(answer.problem(), (403, code.to_owned(), String::new()));
        }
        let series = format!("omf_gateway_requests_refused_total{{code=\"{code}\"}}");
        assert_eq!(server.metric(&series).await, Some(2.0));
    }
    assert_eq!(Run("eu-7", 1).poll(&server, &other).await.status, StatusCode::NO_CONTENT);
    let delivered = server.deliver(&other, vec![record(0, START, None)]).await;
    assert_eq!(delivered.problem().1, "gateway_not_permitted", "records are of the gateway edge");
    let list = server.get("/v1/tokens").await.expect(StatusCode::OK);
    let edge_2 = list["items"].as_array().unwrap().iter().find(|token| token["name"] == "edge-2").unwrap();
    assert_eq!(edge_2["gateways"], json!(["edge-2", "eu-*"]));
}

#[tokio::test]
async fn removed_gateway_no_longer_counts_and_stands_in_the_admin_log() {
    let server = TestServer::new().await;
    let token = gateway_token(&server, json!({"name": "edge"})).await;
    Run("eu/edge", 1).poll(&server, &token).await;
    server.app.fleet.memorise(&*server.app.store).await.unwrap();
    server.pass(Duration::from_secs(61));
    assert_eq!(revoke(&server, "a").await, (false, vec!["silent".to_owned()]));
    let path = "/v1/gateways/eu%2Fedge%2F0000000000000001";
    assert_eq!(server.delete(path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.delete(path).await.problem().1, "not_found");
    assert_eq!(server.delete("/v1/gateways/edge").await.problem().1, "not_found");
    assert_eq!(revoke(&server, "b").await, (true, vec![]));
    let log = server.get("/v1/admin-log?action=gateway.removed").await.expect(StatusCode::OK);
    assert_eq!(log["items"].as_array().unwrap().len(), 1);
    assert_eq!(log["items"][0]["subject"]["id"], "eu/edge/0000000000000001");
    let server = server.restart().await;
    assert_eq!(revoke(&server, "c").await, (true, vec![]), "it is not remembered");
}
