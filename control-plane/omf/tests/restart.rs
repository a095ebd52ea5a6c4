//! The state that a restart and a restore preserve, and the responses before the control plane is ready.
#![allow(clippy::disallowed_methods, reason = "tests prepare files and measure time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use omniflow_test_server::{START, TestServer, log_to, record, request};
use serde_json::json;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

#[tokio::test]
async fn a_restart_keeps_everything() {
    let server = TestServer::new().await;
    let gateway = server.token("gateway").await;
    server.key("kept").await;
    server.key("gone").await;
    server.post("/v1/keys/gone/revoke", json!({})).await.expect(StatusCode::OK);
    server.deliver(&gateway, vec![record(0, START, None)]).await;
    let read = async |server: &TestServer| {
        let mut all = Vec::new();
        for path in ["/v1/keys", "/v1/tokens", "/v1/policy", "/v1/audit"] {
            all.push(server.get(path).await.expect(StatusCode::OK));
        }
        all
    };
    let before = (read(&server).await, server.app.publisher.publication.image().unwrap());
    let owner = server.owner.clone();
    let server = server.restart().await;
    assert_eq!(server.owner, owner, "the token is made once");
    assert_eq!(read(&server).await, before.0);
    let image = server.app.publisher.publication.image().unwrap();
    assert_eq!(image.manifest(), before.1.manifest());
    assert_eq!(image.len(), 2);
    server.deliver(&gateway, vec![record(0, START, None)]).await;
    let audit = server.get("/v1/audit").await.expect(StatusCode::OK);
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "a repeat is known after a restart too");
}

/// The immediate response of `revoke?wait`.
async fn enforcement(server: &TestServer) -> serde_json::Value {
    let answer = server.post("/v1/keys/ci/revoke?wait=0s", json!({})).await.expect(StatusCode::OK);
    answer["enforcement"].clone()
}

#[tokio::test]
async fn a_restarted_control_plane_waits_for_the_gateways_that_it_knew() {
    let server = TestServer::new().await;
    server.key("ci").await;
    let token = server.token("gateway").await;
    let poll = async |server: &TestServer, incarnation: &str| {
        let version = server.app.publisher.publication.version().unwrap();
        let body = json!({
            "gateway": "edge", "incarnation": incarnation, "filter_version": "0.1.0", "snapshot_format": 1,
            "installation": server.app.publisher.installation.id, "version": version, "wait_ms": 0, "clock": 1_800_000_000_000_u64,
            "vms": [{"id": "0000000000000001", "version": version}],
        });
        let request = request(Method::POST, "/gateway/v1/poll", &token, Some(body));
        assert_eq!(server.call(request).await.status, StatusCode::NO_CONTENT);
    };
    poll(&server, "000000000000000b").await;
    server.pass(Duration::from_secs(300));
    poll(&server, "000000000000000a").await;
    server.app.fleet.memorise(&*server.app.store).await.unwrap();
    server.pass(Duration::from_secs(150));
    let server = server.restart().await;

    // One was seen slightly more than a lease ago and may be live; it has replaced the other.
    let now = enforcement(&server).await;
    assert_eq!(now["complete"], false);
    assert_eq!(
        now["gateways"],
        json!([{"id": "edge/000000000000000a", "state": "behind", "workers": 0, "enforced": false, "enforced_workers": 0, "ms": null,
                "last_seen_at": "2027-01-15T08:05:00.000Z"}])
    );
    let list = server.get("/v1/gateways").await.expect(StatusCode::OK);
    assert_eq!(list["items"][0]["filter_version"], json!(null));
    assert_eq!(list["items"][0]["first_seen_at"], "2027-01-15T08:05:00.000Z");

    server.pass(Duration::from_secs(60));
    assert_eq!(enforcement(&server).await["complete"], false, "its lease is not over yet");
    poll(&server, "000000000000000a").await;
    let now = enforcement(&server).await;
    assert_eq!((&now["complete"], &now["gateways"][0]["enforced"]), (&json!(true), &json!(true)));

    server.pass(Duration::from_secs(61));
    let now = enforcement(&server).await;
    let state = |now: &serde_json::Value| (now["complete"].clone(), now["gateways"][0]["state"].clone());
    assert_eq!(state(&now), (json!(true), json!("silent")), "it has confirmed this version");
    server.key("another").await;
    let answer = server.post("/v1/keys/another/revoke?wait=30s", json!({})).await.expect(StatusCode::OK);
    assert_eq!(state(&answer["enforcement"]), (json!(false), json!("silent")));

    server.pass(Duration::from_secs(86_400));
    let now = enforcement(&server).await;
    assert_eq!(
        (&now["complete"], &now["gateways"]),
        (&json!(true), &json!([])),
        "after a day it is forgotten"
    );
}

#[tokio::test]
async fn a_gateway_that_does_not_come_back_is_waited_for_until_its_lease_is_over() {
    let server = TestServer::new().await;
    server.key("ci").await;
    server.app.fleet.reported(&report(), omniflow_service::fleet::VersionBounds::ALL);
    server.app.fleet.memorise(&*server.app.store).await.unwrap();
    let server = server.restart().await;
    server.pass(Duration::from_secs(60));
    let before = enforcement(&server).await;
    assert_eq!((&before["complete"], &before["gateways"][0]["state"]), (&json!(false), &json!("behind")));
    server.pass(Duration::from_millis(1));
    let after = enforcement(&server).await;
    assert_eq!((&after["complete"], &after["gateways"][0]["state"]), (&json!(false), &json!("silent")));
    // A restart after an outage of any length waits once more, for one lease and not forever.
    server.pass(Duration::from_secs(3_600));
    let server = server.restart().await;
    assert_eq!(enforcement(&server).await["gateways"][0]["state"], "behind");
    server.pass(Duration::from_secs(61));
    assert_eq!(enforcement(&server).await["gateways"][0]["state"], "silent");
}

#[tokio::test]
async fn versions_only_grow_whatever_the_clock_does() {
    let server = TestServer::new().await;
    let mut last = server.app.publisher.publication.version().unwrap();
    assert_eq!(last, START);
    for name in ["a", "b", "c"] {
        server.key(name).await;
        let version = server.app.publisher.publication.version().unwrap();
        assert!(version > last);
        last = version;
    }
    server.pass(Duration::from_secs(10));
    server.key("d").await;
    assert_eq!(server.app.publisher.publication.version().unwrap(), START + 10_000);
}

/// Counts the logged warnings and errors.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= tracing::Level::WARN {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn requests_before_the_image_is_built_get_retry_after() {
    let warnings = Warnings::default();
    let subscriber = tracing_subscriber::registry().with(warnings.clone());
    let _logging = log_to(subscriber);
    let server = TestServer::starting().await;
    let call = async |path: &str, body: serde_json::Value| {
        let method = if body.is_null() { "GET" } else { "POST" }.parse().unwrap();
        let body = Some(body).filter(|body| !body.is_null());
        let request = request(method, path, &server.owner, body);
        server.call(request).await
    };
    assert_eq!(call("/healthz", json!(null)).await.status, StatusCode::OK);
    let body = json!({"name": "x", "environment": "live", "scopes": []});
    for answer in [call("/readyz", json!(null)).await, call("/v1/keys", body).await] {
        assert_eq!(answer.problem().1, "not_ready");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    assert_eq!(warnings.0.load(Ordering::Relaxed), 0, "nothing is wrong yet");
    server.app.publisher.build_image().await.unwrap();
    assert_eq!(call("/readyz", json!(null)).await.status, StatusCode::OK);
    server.app.store.close().await;
    assert_eq!(call("/readyz", json!(null)).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(warnings.0.load(Ordering::Relaxed) > 0, "a database that fails is reported");
}

/// A restored database continues above every version that gateways have, so none of them receives a delta to it.
#[tokio::test]
async fn gateway_takes_the_whole_image_after_a_restore() {
    use omniflow_domain::version::RESTORE_LEAD_MS;
    use omniflow_policy::gateway::MANIFEST_MEDIA_TYPE;
    use omniflow_policy::time::UnixMillis;
    use omniflow_store_sqlite::{back_up, restore};

    let server = TestServer::new().await;
    server.key("kept").await;
    let gateway = server.token("gateway").await;
    server.deliver(&gateway, vec![record(0, START, None)]).await;
    let room = tempfile::tempdir().unwrap();
    let backup = room.path().join("backup");
    back_up(server.folder(), &backup, true, "2027-01-15T08:00:00.000Z".to_owned()).await.unwrap();
    server.key("later").await;
    let (held, installation) =
        (server.app.publisher.publication.version().unwrap(), server.app.publisher.installation.id);
    let target = room.path().join("new");
    restore(&backup, &target, false, UnixMillis(START + 60_000)).await.unwrap();
    let server = server.restart_with(|settings| settings.data_dir = target).await;
    assert_eq!(server.get("/v1/keys/later").await.status, StatusCode::NOT_FOUND);
    let created = json!({"name": "edge", "role": "gateway"});
    let created = server.post("/v1/tokens", created).await.expect(StatusCode::CREATED);
    server.key("new").await;
    let body = json!({
        "gateway": "edge", "incarnation": "000000000000000a", "filter_version": "0.1.0", "snapshot_format": 1,
        "installation": installation, "version": held, "wait_ms": 0, "clock": 1_800_000_000_000_u64,
        "vms": [{"id": "0000000000000001", "version": held}],
    });
    let token = created["secret"].as_str().unwrap();
    let answer = server.call(request(Method::POST, "/gateway/v1/poll", token, Some(body))).await;
    assert_eq!(answer.headers["content-type"], MANIFEST_MEDIA_TYPE, "no delta leads there");
    let version = server.app.publisher.publication.version().unwrap();
    assert!(version > held + RESTORE_LEAD_MS, "{version}");
}

/// A poll from a gateway.
fn report() -> omniflow_policy::gateway::EnforcedReport {
    serde_json::from_value(json!({
        "gateway": "edge", "incarnation": "000000000000000a", "installation": null, "vms": []}))
    .unwrap()
}
