//! Every call is in the audit log exactly once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Call, Stack, StackOptions, eventually};
use omniflow_policy::audit::ArgumentHash;
use serde_json::{Value, json};

use crate::support::{CONTACTS, connections, contacts};

const WAIT: Duration = Duration::from_secs(60);
const CALLS: u64 = 10_000;
const CONNECTIONS: usize = 32;

/// The n-th call of a run that has every outcome, with its status and reason. The query string is its own.
fn call(n: u64, keys: &HashMap<&str, String>) -> (Call, u16, &'static str) {
    let path = format!("{CONTACTS}/{n}?n={n}");
    let key = |name: &str| Call::get(&path).header("x-api-key", &keys[name]);
    match n % 10 {
        0 => (Call::get(&path), 401, "missing_credentials"),
        1 => (Call::get(&path).bearer("omf_live_x"), 401, "malformed_key"),
        2 => (
            Call::get(&path).bearer("omf_live_abcdefghijklmnopqrstuvwxyz0123456789ABCD2BjG4p"),
            401,
            "unknown_key",
        ),
        3 => (key("revoked"), 401, "key_revoked"),
        4 => (key("elsewhere"), 403, "ip_not_allowed"),
        5 => (key("reader").bearer(&keys["reader"]), 401, "ambiguous_credentials"),
        6 => {
            let body = format!("{{\"n\":{n}}}");
            (Call::new("POST", &path).header("x-api-key", &keys["writer"]).body(body), 200, "allowed")
        }
        7 => (key("writer"), 403, "insufficient_scope"),
        8 => (key("reader").header("x-echo-status", "503"), 503, "allowed"),
        _ => (key("reader"), 200, "allowed"),
    }
}

/// Creates the keys of the run and returns their secrets by name.
async fn create_keys(stack: &mut Stack) -> HashMap<&'static str, String> {
    let mut keys = HashMap::new();
    for (name, scope, networks) in [
        ("reader", "contacts:read", json!([])),
        ("writer", "contacts:write", json!([])),
        ("revoked", "contacts:read", json!([])),
        ("elsewhere", "contacts:read", json!(["203.0.113.0/24"])),
    ] {
        let fields = json!({
            "name": name, "environment": "live", "scopes": [scope], "ip_allowlist": networks,
            "rate_limit": {"per_minute": 1_000_000},
        });
        let key = stack.control_plane.create_key(fields).await.unwrap();
        if name == "revoked" {
            stack.control_plane.revoke(&key.id, None).await.unwrap();
        }
        keys.insert(name, key.secret);
    }
    keys
}

/// Checks the record of a call that has its own.
fn check_record(record: &Value, n: u64, call: &Call, status: u16, reason: &str) {
    let named =
        !matches!(reason, "missing_credentials" | "malformed_key" | "unknown_key" | "ambiguous_credentials");
    assert_eq!(record["status"], status, "{record}");
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["decision"], if reason == "allowed" { "allowed" } else { "denied" });
    assert_eq!(record["method"], call.method.as_str());
    assert_eq!(record["endpoint"], "/api/v1/contacts/{id}");
    assert_eq!(record["key_name"].is_string(), named, "{record}");
    assert_eq!(record["source_ip"], "127.0.0.1");
    assert_eq!(record["gateway"], "test");
    assert!(record["latency_us"].as_u64().unwrap() > 0, "{record}");
    assert!(record["request_id"].as_str().unwrap().len() >= 32, "{record}");
    if status == 200 {
        let mut hash = ArgumentHash::new(format!("n={n}").as_bytes());
        hash.update(&call.body);
        assert_eq!(record["argument_hash"], hash.finish().to_hex(), "{record}");
        assert_eq!(record["argument_hash_partial"], false, "{record}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_ten_thousand_calls_is_recorded_once() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let keys = create_keys(&mut stack).await;
    stack.in_step().await.unwrap();
    let keys = Arc::new(keys);
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for mut connection in connections(stack.envoy.port(), CONNECTIONS).await.unwrap() {
        let (keys, next) = (keys.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= CALLS {
                    return;
                }
                let (call, status, reason) = call(n, &keys);
                let response = connection.call(call).await.unwrap();
                assert_eq!(response.status, status, "{reason}: {}", response.text());
            }
        }));
    }
    // The control plane disappears in the middle without notice, and returns.
    eventually(WAIT, || async {
        let done = next.load(Ordering::Relaxed);
        ensure!(done > CALLS / 2, "{done} calls");
        Ok(())
    })
    .await
    .unwrap();
    stack.control_plane.process().kill().unwrap();
    stack.control_plane.restart().await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    let calls = |items: &[&Value]| -> u64 {
        items.iter().map(|item| item["aggregated_calls"].as_u64().unwrap_or(1)).sum()
    };
    let records = eventually(WAIT, || async {
        let records = stack.control_plane.audit("limit=500").await?;
        let reported = calls(&records.iter().collect::<Vec<_>>());
        ensure!(reported >= CALLS, "{reported} calls");
        Ok(records)
    })
    .await
    .unwrap();
    assert_eq!(calls(&records.iter().collect::<Vec<_>>()), CALLS, "none twice");
    for reason in [
        "missing_credentials",
        "malformed_key",
        "unknown_key",
        "key_revoked",
        "ip_not_allowed",
        "ambiguous_credentials",
        "insufficient_scope",
    ] {
        let of_reason: Vec<_> = records.iter().filter(|record| record["reason"] == reason).collect();
        assert_eq!(calls(&of_reason), CALLS / 10, "{reason}");
    }
    let mut seen: HashMap<String, &Value> = HashMap::new();
    for record in records.iter().filter(|record| record["aggregated_calls"].is_null()) {
        let path = record["path"].as_str().unwrap().to_owned();
        assert!(seen.insert(path, record).is_none(), "twice: {record}");
    }
    for n in 0..CALLS {
        let (call, status, reason) = call(n, &keys);
        let Some(record) = seen.get(&format!("{CONTACTS}/{n}")) else {
            assert_ne!(reason, "allowed", "{n} was allowed, and has no record of its own");
            continue;
        };
        check_record(record, n, &call, status, reason);
    }
    let gaps = stack.control_plane.list("/v1/audit/gaps").await.unwrap();
    assert!(gaps.is_empty(), "{gaps:?}");
    assert_eq!(stack.envoy.stat("wasmcustom.omniflow_audit_records_lost").await.unwrap(), 0);
    let everything = json!(records).to_string();
    for secret in keys.values() {
        assert!(!everything.contains(secret.as_str()), "a secret is in the audit log");
    }
}

/// Clients do put secrets into paths.
#[tokio::test]
async fn a_secret_in_a_path_is_not_recorded() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let key = stack.live_key("careless", &["contacts:read"]).await.unwrap();
    let path = format!("{CONTACTS}/{}?key={}", key.secret, key.secret);
    assert_eq!(stack.call(Call::get(&path).bearer(&key.secret)).await.unwrap().status, 200);
    let records = eventually(WAIT, || async {
        let records = stack.control_plane.audit("key=careless").await?;
        ensure!(records.len() == 1, "{records:?}");
        Ok(records)
    })
    .await
    .unwrap();
    assert_eq!(records[0]["path"], format!("{CONTACTS}/omf_live_***"));
    for file in ["access.log", "envoy.log", "control-plane.log", "state/audit.db", "state/audit.db-wal"] {
        let bytes = std::fs::read(stack.folder().join(file)).unwrap_or_default();
        let found = bytes.windows(key.secret.len()).any(|window| window == key.secret.as_bytes());
        assert!(!found, "the secret is in {file}");
    }
}

#[tokio::test]
async fn records_are_found_by_every_filter() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let live = stack.live_key("finder", &["contacts:read"]).await.unwrap();
    let test = stack
        .key(json!({"name": "sandbox", "environment": "test", "scopes": ["contacts:read"]}))
        .await
        .unwrap();
    for call in [
        contacts(&live.secret),
        contacts(&live.secret).header("x-echo-status", "404"),
        contacts(&test.secret),
        Call::new("POST", CONTACTS).header("x-api-key", &live.secret),
        Call::get("/nowhere").header("x-api-key", &live.secret),
    ] {
        stack.call(call).await.unwrap();
    }
    let count = |query: String, expected: usize| {
        let stack = &stack;
        async move {
            eventually(WAIT, || async {
                let found = stack.control_plane.audit(&query).await?.len();
                ensure!(found == expected, "{query}: {found} instead of {expected}");
                Ok(())
            })
            .await
            .unwrap();
        }
    };
    for (query, expected) in [
        ("", 5),
        ("key=finder", 4),
        ("environment=test", 1),
        ("endpoint=/api/v1/contacts", 4),
        ("method=POST", 1),
        ("status=404", 1),
        ("status=4xx", 3),
        ("decision=denied", 2),
        ("reason=route_not_mapped", 1),
        ("ip=127.0.0.0/8", 5),
        ("ip=127.0.0.1", 5),
        ("ip=10.0.0.0/8", 0),
        ("from=2020-01-01T00:00:00Z", 5),
        ("to=2020-01-01T00:00:00Z", 0),
        ("key=finder&status=4xx&decision=allowed", 1),
    ] {
        count(query.to_owned(), expected).await;
    }
    count(format!("key={}", live.id), 4).await;
}

#[tokio::test]
async fn a_streamed_body_is_hashed_and_a_broken_one_is_marked() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let key = stack.live_key("writer", &["contacts:write"]).await.unwrap();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let call =
        Call::new("POST", &format!("{CONTACTS}?a=1")).header("x-api-key", &key.secret).body(body.clone());
    let answer = stack.call(call).await.unwrap();
    assert_eq!(answer.json().unwrap()["body_bytes"], body.len());
    let answered = answer.text().len();
    let mut broken = omniflow_harness::RawConnection::open(stack.envoy.port()).await.unwrap();
    let head = format!(
        "POST {CONTACTS}?a=2 HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\ncontent-length: 100\r\n\r\nabc",
        key.secret
    );
    broken.send(head.as_bytes()).await.unwrap();
    drop(broken);
    let records = eventually(WAIT, || async {
        let records = stack.control_plane.audit("key=writer").await?;
        ensure!(records.len() == 2, "{records:?}");
        Ok(records)
    })
    .await
    .unwrap();
    let mut hash = ArgumentHash::new(b"a=1");
    hash.update(&body);
    let whole = hash.finish().to_hex();
    let record =
        |partial: bool| records.iter().find(|record| record["argument_hash_partial"] == partial).unwrap();
    assert_eq!(record(false)["argument_hash"], whole.as_str());
    // Of the bodies, as they passed.
    assert_eq!(record(false)["request_bytes"], body.len());
    assert_eq!(record(false)["response_bytes"], answered);
    assert_eq!(record(true)["request_bytes"], 3);
    assert_ne!(record(true)["argument_hash"], whole.as_str());
}
