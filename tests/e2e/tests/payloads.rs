//! The arguments of calls: stored as the policy specifies, readable by auditors, and not readable from the files.

use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, Connection, RawConnection, Stack, StackOptions, eventually};
use omniflow_policy::digest::Digest;
use serde_json::{Value, json};

use crate::support::{CONTACTS, files_with};

const WAIT: Duration = Duration::from_secs(30);

/// A stack with a key that reads and writes contacts, and an auditor.
struct Scene {
    stack: Stack,
    key: NewKey,
    auditor: String,
}

impl Scene {
    async fn new(options: StackOptions) -> Self {
        let stack = Stack::start(options).await.unwrap();
        let key = stack.live_key("sender", &["contacts:read", "contacts:write"]).await.unwrap();
        let auditor = stack.control_plane.create_token("auditor", "auditor").await.unwrap();
        Self { stack, key, auditor }
    }

    /// Changes the policy, and waits until the gateways enforce it.
    async fn policy(&self, change: impl FnOnce(&mut Value)) {
        let mut policy = self.stack.control_plane.get("/v1/policy").await.unwrap()["document"].take();
        change(&mut policy);
        let call = Call::new("PUT", "/v1/policy?wait=5s").json(&policy);
        let answer = self.stack.control_plane.expect(200, call).await.unwrap().json().unwrap();
        assert_eq!(answer["enforcement"]["complete"], true, "{answer}");
    }

    async fn send(&self, name: &str, call: impl FnOnce(Call) -> Call) -> u16 {
        let call = call(Call::new("POST", &format!("{CONTACTS}/{name}")));
        self.stack.call(call.header("x-api-key", &self.key.secret)).await.unwrap().status
    }

    /// The record of the call to this path.
    async fn record(&self, name: &str) -> Value {
        eventually(WAIT, || async {
            let records = self.stack.control_plane.audit("key=sender").await?;
            let path = format!("{CONTACTS}/{name}");
            let record = records.into_iter().find(|record| record["path"] == path);
            ensure!(record.is_some(), "no record of {name}");
            Ok(record.unwrap_or_default())
        })
        .await
        .unwrap()
    }

    /// The payload of the call to this path, as an auditor is reported.
    async fn payload(&self, name: &str) -> Value {
        let record = self.record(name).await;
        assert_eq!(record["has_payload"], true, "{record}");
        let path = format!("/v1/audit/{}/payload", record["id"].as_str().unwrap());
        let answer = self.stack.control_plane.call(Call::get(&path).bearer(&self.auditor)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json().unwrap()
    }
}

fn reported(payload: &Value) -> [&str; 3] {
    ["query", "body", "state"].map(|name| payload[name].as_str().unwrap())
}

#[tokio::test]
async fn what_a_call_sent_is_kept_sealed_and_reported_to_auditors() {
    let scene = Scene::new(StackOptions::workers(2)).await;
    let key = &scene.key.secret;
    scene.policy(|policy| policy["payloads"] = json!({"redact": ["/password", "/card/*"]})).await;
    let body =
        json!({"note": "wolpertinger", "password": "hunter2hunter2", "card": {"pin": "87541298"}, "k": key});
    assert_eq!(
        scene.send("json/7?password=hunter2hunter2&q=wolpertinger", |call| call.json(&body)).await,
        200
    );
    let shown = scene.payload("json/7").await;
    let expected = [
        "password=***&q=wolpertinger",
        r#"{"card":{"pin":"***"},"k":"omf_live_***","note":"wolpertinger","password":"***"}"#,
        "whole",
    ];
    assert_eq!(reported(&shown), expected);
    assert_eq!((&shown["media_type"], &shown["body_encoding"]), (&json!("application/json"), &json!("text")));

    // Without fields to redact, bytes that cannot be packed: if they were not sealed, they would lie in the file.
    scene.policy(|policy| policy["payloads"] = json!({"max_bytes": 65_536})).await;
    let random: Vec<u8> = (0..625u32).flat_map(|n| *Digest::of(&n.to_le_bytes()).as_bytes()).collect();
    assert_eq!(scene.send("random", |call| call.body(random.clone())).await, 200);
    assert_eq!(reported(&scene.payload("random").await)[2], "whole");
    assert_eq!(scene.payload("random").await["body_encoding"], "base64");

    let owner = Call::get("/v1/audit/1/payload").bearer(scene.stack.control_plane.admin_token());
    let owner = scene.stack.control_plane.call(owner).await.unwrap();
    assert_eq!((owner.status, owner.problem_code().as_deref()), (403, Some("forbidden")));
    let events = scene.stack.control_plane.get("/v1/admin-log?action=payload.read").await.unwrap();
    let names = events["items"].as_array().unwrap().iter().map(|event| &event["principal"]["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["auditor"; 3]);

    // All that the run has written: databases with their logs, logs of Envoy and of the control plane.
    for bytes in [&b"wolpertinger"[..], b"hunter2hunter2", b"87541298", key.as_bytes(), &random[9_000..9_016]]
    {
        let found = files_with(scene.stack.folder(), bytes);
        assert!(found.is_empty(), "{:?} is in {found:?}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn no_more_is_kept_than_the_policy_says() {
    let scene = Scene::new(StackOptions::workers(1)).await;
    let long = "x".repeat(200_000);
    // By itself, 64 KiB of query string and body together.
    scene.send("default?q=1", |call| call.body(long.clone())).await;
    let shown = scene.payload("default").await;
    let [query, body, state] = reported(&shown);
    assert_eq!((query, body.len(), state), ("q=1", 65_533, "cut"));

    let of_route = |policy: &mut Value| {
        policy["payloads"] = json!({"max_bytes": 10});
        for route in policy["routes"].as_array_mut().unwrap() {
            if route["path"] == format!("{CONTACTS}/{{id}}/{{*rest}}") {
                route["payload"] = json!(false);
            }
        }
    };
    scene.policy(of_route).await;
    scene.send("short?q=12345", |call| call.body("0123456789")).await;
    assert_eq!(reported(&scene.payload("short").await), ["q=12345", "012", "cut"]);
    scene.send("off/here?q=1", |call| call.body("secret")).await;
    assert_eq!(scene.record("off/here").await["has_payload"], false);
    scene.send("nothing", |call| call).await;
    assert_eq!(scene.record("nothing").await["has_payload"], false, "nothing was sent");

    scene.policy(|policy| policy["payloads"] = json!({"max_bytes": 0})).await;
    scene.send("none?q=1", |call| call.body("secret")).await;
    assert_eq!(scene.record("none").await["has_payload"], false);

    // Bodies of clients without a key, or with a credential of another system, are not recorded.
    scene.policy(|policy| policy["payloads"] = json!({"max_bytes": 100})).await;
    let path = format!("{CONTACTS}/stranger?q=1");
    assert_eq!(scene.stack.call(Call::new("POST", &path).body("secret")).await.unwrap().status, 401);
    let records = eventually(WAIT, || async {
        let records = scene.stack.control_plane.audit("reason=missing_credentials").await?;
        ensure!(!records.is_empty(), "no record");
        Ok(records)
    })
    .await
    .unwrap();
    assert_eq!(records[0]["has_payload"], false);
}

/// Clients that send the beginning of a body and then wait fill the room for calls in progress.
#[tokio::test]
async fn unfinished_bodies_of_one_key_do_not_keep_those_of_others_from_being_recorded() {
    let scene = Scene::new(StackOptions::workers(1)).await;
    let fields = json!({
        "name": "greedy", "environment": "live", "scopes": ["contacts:write"], "rate_limit": {"per_minute": 1_000},
    });
    let greedy = scene.stack.key(fields).await.unwrap();
    let mut held = Vec::new();
    for n in 0..70 {
        let mut connection = RawConnection::open(scene.stack.envoy.port()).await.unwrap();
        let head = format!(
            "POST {CONTACTS}/{n} HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\ncontent-length: 100000\r\n\r\n",
            greedy.secret
        );
        connection.send(head.as_bytes()).await.unwrap();
        connection.send(&[b'x'; 65_536]).await.unwrap();
        held.push(connection);
    }
    const ACTIVE: &str = "http.ingress.downstream_rq_active";
    eventually(WAIT, || async {
        let active = scene.stack.envoy.stat(ACTIVE).await?;
        ensure!(active >= 70, "{active} calls are in progress");
        Ok(())
    })
    .await
    .unwrap();
    for n in 0..20 {
        let name = format!("small-{n}");
        assert_eq!(scene.send(&name, |call| call.body(vec![b'y'; 20_000])).await, 200);
        let payload = scene.payload(&name).await;
        assert_eq!((reported(&payload)[1].len(), reported(&payload)[2]), (20_000, "whole"), "{name}");
    }
    drop(held);
}

#[tokio::test]
async fn payloads_take_no_room_of_records() {
    // The minimum size of the buffer; the control plane is unavailable, so that it fills.
    let options = StackOptions::workers(1).plugin("audit_buffer_bytes", 65_536);
    let mut scene = Scene::new(options).await;
    scene.stack.control_plane.process().kill().unwrap();
    let mut connection = Connection::http1(scene.stack.envoy.port()).await.unwrap();
    for n in 0..40 {
        let call = Call::new("POST", &format!("{CONTACTS}/{n}")).header("x-api-key", &scene.key.secret);
        assert_eq!(connection.call(call.body(vec![b'x'; 2_000])).await.unwrap().status, 200);
    }
    // More than a VM holds for calls under way.
    let call = Call::new("POST", &format!("{CONTACTS}/huge")).header("x-api-key", &scene.key.secret);
    assert_eq!(connection.call(call.body(vec![b'x'; 60_000])).await.unwrap().status, 200);
    scene.stack.control_plane.restart().await.unwrap();
    let records = eventually(WAIT, || async {
        let records = scene.stack.control_plane.audit("key=sender").await?;
        ensure!(records.len() == 41, "{} records", records.len());
        Ok(records)
    })
    .await
    .unwrap();
    let (mut whole, mut dropped) = (0, 0);
    for record in &records {
        let name = record["path"].as_str().unwrap().rsplit('/').next().unwrap();
        match reported(&scene.payload(name).await)[2] {
            "whole" => whole += 1,
            "no_room" => dropped += 1,
            other => panic!("{other}: {record}"),
        }
    }
    // 32 KiB have room for fifteen of 2,000 bytes, with their records.
    assert!((10..=16).contains(&whole) && whole + dropped == 41, "{whole} whole, {dropped} dropped");
    assert_eq!(reported(&scene.payload("huge").await)[2], "no_room");
    let counted = scene.stack.envoy.stat("wasmcustom.omniflow_audit_payloads_dropped").await.unwrap();
    assert_eq!(counted, dropped);
    let gaps = scene.stack.control_plane.get("/v1/audit/gaps").await.unwrap();
    assert_eq!(gaps["items"], json!([]), "no record was lost");
}
