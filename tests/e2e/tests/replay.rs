//! A draft of a policy against a large audit log.

use omniflow_harness::control_plane::{ControlPlane, ControlPlaneOptions};
use omniflow_harness::{Call, ports::Port};
use omniflow_policy::audit::{AuditBatch, AuditKey, AuditRecord, AuditSource};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH, Incarnation};
use omniflow_policy::key::Environment;
use omniflow_policy::time::UnixMillis;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::now_millis;

const CALLS: u64 = 100_000;
const KEYS: u64 = 200;
const CALLS_IN_BATCH: u64 = 2_000;

/// Every key reads contacts. Of each hundred calls 60 read contacts and 40 want tickets, which are refused.
fn record(number: u64, ids: &[Uuid]) -> AuditRecord {
    let key = number % KEYS;
    let allowed = number % 100 < 60;
    let (path, endpoint) = match allowed {
        true => (format!("/api/v1/contacts/{number}"), "/api/v1/contacts/{id}"),
        false => (format!("/api/v1/tickets/{number}"), "/api/v1/tickets/{id}"),
    };
    AuditRecord {
        sequence: number,
        time: UnixMillis(now_millis() + number),
        key: Some(AuditKey {
            id: ids[usize::try_from(key).unwrap()],
            name: format!("key-{key}"),
            version: 1,
            environment: Environment::Live,
        }),
        method: "GET".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        path,
        status: if allowed { 200 } else { 403 },
        grpc_status: None,
        interruption: None,
        outcome: if allowed { Outcome::Allowed } else { Outcome::Denied(Denial::InsufficientScope) },
        latency_us: 900,
        source_ip: Some("203.0.113.7".parse().unwrap()),
        request_id: format!("request-{number}"),
        request_bytes: 120,
        response_bytes: 340,
        argument_hash: Digest::of(b"\n"),
        argument_hash_partial: false,
    }
}

async fn deliver(server: &ControlPlane, token: &str, ids: &[Uuid]) {
    let source = AuditSource { gateway: "edge".to_owned(), incarnation: Incarnation(1), vm: Incarnation(2) };
    for first in (0..CALLS).step_by(usize::try_from(CALLS_IN_BATCH).unwrap()) {
        let records = (first..first + CALLS_IN_BATCH).map(|number| record(number, ids)).collect();
        let batch = AuditBatch::from_records(source.clone(), records).encode();
        let call = Call::new("POST", AUDIT_PATH).header("content-type", AUDIT_MEDIA_TYPE).body(batch);
        let response = server.call(call.bearer(token)).await.unwrap();
        assert!(response.status < 300, "{}", response.text());
    }
}

#[tokio::test]
async fn a_hundred_thousand_calls_are_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let server = ControlPlane::start(ControlPlaneOptions::new(folder.path(), port.number())).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..KEYS {
        let key = server.create_live_key(&format!("key-{number}"), &["contacts:read"]).await.unwrap();
        ids.push(key.id.parse().unwrap());
    }
    let token = server.create_token("edge", "gateway").await.unwrap();
    deliver(&server, &token, &ids).await;

    // Contacts need another scope, and tickets the one of contacts.
    let mut draft: Value = server.get("/v1/policy").await.unwrap()["document"].take();
    for route in draft["routes"].as_array_mut().unwrap() {
        let path = route["path"].as_str().unwrap().to_owned();
        if path.starts_with("/api/v1/contacts") {
            route["scope"] = json!("agents:read");
        } else if path.starts_with("/api/v1/tickets") {
            route["scope"] = json!("contacts:read");
        }
    }
    let answer = server.expect(200, Call::post("/v1/policy/replay", &draft)).await.unwrap().json().unwrap();
    let counts = [
        ("calls", CALLS),
        ("newly_refused", CALLS / 100 * 60),
        ("newly_allowed", CALLS / 100 * 40),
        ("still_allowed", 0),
        ("still_refused", 0),
        ("unaffected", 0),
        ("not_replayable", 0),
    ];
    for (name, expected) in counts {
        assert_eq!(answer[name], expected, "{name}: {answer}");
    }
    // Key n makes the calls n, n + 200, …: those of the first 60 of each hundred read contacts only.
    assert_eq!((&answer["keys_newly_refused"], &answer["keys_newly_allowed"]), (&json!(120), &json!(80)));
    assert_eq!((&answer["complete"], &answer["more_changes"]), (&json!(true), &json!(true)));
}
