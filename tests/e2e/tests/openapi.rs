//! The control plane responds as specified in its OpenAPI document to any request: Schemathesis calls every operation
//! of a real one, with valid and invalid data.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use omniflow_harness::control_plane::{ControlPlane, ControlPlaneOptions};
use omniflow_harness::paths;
use omniflow_harness::ports::Port;
use omniflow_harness::process::Process;
use omniflow_harness::{Call, eventually};
use omniflow_policy::audit::{AuditBatch, AuditItem, AuditKey, AuditRecord, AuditSource};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH, Incarnation};
use omniflow_policy::key::Environment;
use omniflow_policy::payload::{CallPayload, PayloadState};
use omniflow_policy::time::UnixMillis;
use serde_json::{Value, json};

use crate::support::now_millis;

/// More than twice its duration on an idle machine.
const WITHIN: Duration = Duration::from_secs(240);
/// For each operation and phase.
const EXAMPLES: &str = "40";
/// The same data in each run.
const SEED: &str = "1";

/// Some of everything: keys in all states, tokens, two versions of the policy, audited calls, a gap.
async fn fill(server: &ControlPlane) {
    for name in ["active", "rotating", "revoked"] {
        server.create_live_key(name, &["contacts:read"]).await.unwrap();
    }
    server.rotate("rotating", "24h").await.unwrap();
    server.revoke("revoked", None).await.unwrap();
    server.create_token("review", "auditor").await.unwrap();
    let mut policy = server.get("/v1/policy").await.unwrap()["document"].take();
    policy["imported_keys"] = json!(true);
    server.expect(200, Call::new("PUT", "/v1/policy").json(&policy)).await.unwrap();

    let gateway = server.create_token("edge", "gateway").await.unwrap();
    let id = server.get("/v1/keys/active").await.unwrap()["id"].as_str().unwrap().parse().unwrap();
    let source = AuditSource { gateway: "edge".to_owned(), incarnation: Incarnation(1), vm: Incarnation(2) };
    // The number 2 is missing: a gap.
    let records = [0, 1, 3].map(|sequence| record(sequence, (sequence != 1).then_some(id)));
    let mut items: Vec<AuditItem> = records.into_iter().map(AuditItem::Call).collect();
    items.push(AuditItem::CallWithPayload(record(4, Some(id)), payload()));
    let call = Call::new("POST", AUDIT_PATH)
        .bearer(&gateway)
        .header("content-type", AUDIT_MEDIA_TYPE)
        .body(AuditBatch { source, delivery: None, items }.encode());
    assert_eq!(server.call(call).await.unwrap().status, 204);
    let poll = json!({"gateway": "edge", "incarnation": "0000000000000001", "filter_version": "0.1.0",
        "snapshot_format": 1, "installation": null, "version": 0, "wait_ms": 0, "clock": 1_800_000_000_000_u64,
        "vms": [{"id": "0000000000000002", "version": 0}]});
    let call = Call::post("/gateway/v1/poll", &poll).bearer(&gateway);
    assert_eq!(server.call(call).await.unwrap().status, 200);
}

fn payload() -> CallPayload {
    CallPayload {
        query: b"page=2".to_vec(),
        body: b"{}".to_vec(),
        state: PayloadState::Whole,
        media_type: "application/json".to_owned(),
        content_encoding: String::new(),
    }
}

fn record(sequence: u64, key: Option<uuid::Uuid>) -> AuditRecord {
    AuditRecord {
        sequence,
        time: UnixMillis(now_millis() + sequence),
        key: key.map(|id| AuditKey {
            id,
            name: "active".to_owned(),
            version: 1,
            environment: Environment::Live,
        }),
        method: "GET".to_owned(),
        endpoint: key.map(|_| "/api/v1/contacts".to_owned()),
        path: "/api/v1/contacts".to_owned(),
        status: if key.is_some() { 200 } else { 401 },
        grpc_status: None,
        interruption: None,
        outcome: if key.is_some() { Outcome::Allowed } else { Outcome::Denied(Denial::UnknownKey) },
        latency_us: 900,
        source_ip: key.map(|_| "203.0.113.7".parse().unwrap()),
        request_id: format!("request-{sequence}"),
        request_bytes: 120,
        response_bytes: 340,
        argument_hash: Digest::of(b"\n"),
        argument_hash_partial: false,
    }
}

/// Runs it for the selected operations; fails with its whole output.
fn schemathesis(server: &ControlPlane, token: &str, folder: &Path, selection: &[&str]) {
    let settings = paths::root().join("tests/schemathesis");
    let python = paths::root().join(".tools/schemathesis/bin/python");
    assert!(python.is_file(), "{} is not there: run `make setup`", python.display());
    let mut command = Command::new(python);
    command
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(settings.join("schemathesis.toml"))
        .args(["run", &format!("http://127.0.0.1:{}/openapi.json", server.port())])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--seed", SEED, "--max-examples", EXAMPLES, "--no-color"])
        .args(selection)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", settings)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // It keeps examples beside where it runs.
        .current_dir(folder);
    let process = Process::spawn("Schemathesis", &mut command, &folder.join("schemathesis.log")).unwrap();
    let status = process.wait(WITHIN);
    let log = process.log();
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{log}");
    assert!(log.contains("Coverage (in"), "it did not run all phases:\n{log}");
}

#[tokio::test]
async fn every_answer_is_one_of_the_documented() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let server = ControlPlane::start(ControlPlaneOptions::new(folder.path(), port.number())).await.unwrap();
    fill(&server).await;
    let token = server.create_token("tester", "owner").await.unwrap();

    // It would revoke its own token among those that it creates and finds, and all later requests would be refused.
    let revoke = "revoke_token";
    // A stream has no end that it could wait for.
    let stream = "stream_audit_records";
    // Payloads of clients are only for auditors.
    let payload = "show_audit_payload";
    let without = [revoke, stream, payload].map(|operation| ["--exclude-operation-id", operation]);
    schemathesis(&server, &token, folder.path(), without.as_flattened());
    let auditor = server.create_token("reader", "auditor").await.unwrap();
    schemathesis(&server, &auditor, folder.path(), &["--include-operation-id", payload]);
    let list = server.get("/v1/tokens?limit=500").await.unwrap();
    let tester = |item: &&Value| item["name"] == "tester";
    assert_eq!(list["items"].as_array().unwrap().iter().filter(tester).count(), 1, "it was in all along");
    schemathesis(&server, &token, folder.path(), &["--include-operation-id", revoke]);

    eventually(Duration::from_secs(10), || async {
        server.get("/v1/keys/active").await?;
        Ok(())
    })
    .await
    .unwrap();
    let errors = server.process().log();
    assert!(!errors.contains("ERROR"), "{errors}");
}
