//! Calls that no limit bounds: refusals, introspection, and calls without a key that pass. However many there are, they
//! use little space in the log, and each of them is counted.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Call, Connection, Stack, StackOptions, eventually};
use serde_json::{Value, json};

use crate::support::{CONTACTS, connections, refusal};

const WAIT: Duration = Duration::from_secs(60);
const INTROSPECTION: &str = "/.well-known/omniflow/key";
/// Each of the two workers records the first ten of a kind.
const FIRST: usize = 2 * 10;
/// Counts that two workers may add while a test sends its calls: one a second each.
const COUNTS: usize = 60;

fn calls(item: &Value) -> u64 {
    item["aggregated_calls"].as_u64().unwrap_or(1)
}

/// Sends a call this many times; returns the number of responses by status.
async fn flood(connections: &mut [Connection], call: &Call, count: usize) -> HashMap<u16, u64> {
    let mut statuses = HashMap::new();
    for n in 0..count {
        let at = n % connections.len();
        let response = connections[at].call(call.clone()).await.unwrap();
        *statuses.entry(response.status).or_default() += 1;
    }
    statuses
}

/// The items of a search, once they represent this many calls.
async fn items(stack: &Stack, query: &str, expected: u64) -> Vec<Value> {
    eventually(WAIT, || async {
        let items = stack.control_plane.audit(&format!("{query}&limit=500")).await?;
        let reported: u64 = items.iter().map(calls).sum();
        ensure!(reported == expected, "{query}: {reported} of {expected} calls in {} items", items.len());
        Ok(items)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_a_key_are_aggregated_by_reason_with_true_counts() {
    const CALLS: usize = 600;
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let mut clients = connections(stack.envoy.port(), 16).await.unwrap();
    let key = async |name: &str, more: Value| {
        let mut fields = json!({"name": name, "environment": "live", "scopes": ["contacts:read"]});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        stack.key(fields).await.unwrap()
    };
    let revoked = key("revoked", json!({})).await;
    stack.control_plane.revoke(&revoked.id, None).await.unwrap();
    let limited = key("limited", json!({"rate_limit": {"per_hour": 5}})).await;
    let elsewhere = key("elsewhere", json!({"ip_allowlist": ["203.0.113.0/24"]})).await;
    let narrow = key("narrow", json!({})).await;
    stack.in_step().await.unwrap();
    // As long as Envoy takes them.
    let path = format!("{CONTACTS}/{}", "a".repeat(2_000));
    for (key, method, status, reason) in [
        (&revoked, "GET", 401, "key_revoked"),
        (&limited, "GET", 429, "rate_limited"),
        (&elsewhere, "GET", 403, "ip_not_allowed"),
        (&narrow, "POST", 403, "insufficient_scope"),
    ] {
        let call = Call::new(method, &path).header("x-api-key", &key.secret);
        let statuses = flood(&mut clients, &call, CALLS).await;
        let refused = statuses.get(&status).copied().unwrap_or(0);
        assert!(refused >= CALLS as u64 - 5, "{reason}: {statuses:?}");
        let items = items(&stack, &format!("key={}&reason={reason}", key.id), refused).await;
        let (counts, single): (Vec<&Value>, Vec<&Value>) =
            items.iter().partition(|item| item["aggregated_calls"].is_number());
        assert!((1..=COUNTS).contains(&counts.len()), "{reason}: {} counts", counts.len());
        // A flood that pauses for a second is another one, which a busy machine may cause.
        assert!((10..=3 * FIRST).contains(&single.len()), "{reason}: {} records", single.len());
        for item in counts {
            assert_eq!((&item["status"], &item["version_id"]), (&json!(status), &json!(1)), "{item}");
            assert_eq!((&item["path"], &item["source_ip"]), (&json!(""), &json!("127.0.0.1")), "{item}");
        }
        for item in single {
            let shown = item["path"].as_str().unwrap();
            assert!(shown.len() <= 1_024 && shown.ends_with('…'), "{shown}");
        }
    }
    let gaps = stack.control_plane.get("/v1/audit/gaps").await.unwrap();
    assert_eq!(gaps["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_pass_without_a_key_are_aggregated_by_address_and_status() {
    const CALLS: usize = 600;
    let options = StackOptions { trusted_hops: 1, ..StackOptions::workers(2) };
    let stack = Stack::start(options.plugin("non_key_credentials", "passthrough")).await.unwrap();
    let mut clients = connections(stack.envoy.port(), 16).await.unwrap();
    for (address, status) in [("198.51.100.1", 200), ("198.51.100.1", 404), ("198.51.100.2", 200)] {
        let call = Call::get(&format!("/any/where/status/{status}"))
            .header("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.x")
            .header("x-forwarded-for", address);
        assert_eq!(flood(&mut clients, &call, CALLS).await, HashMap::from([(status, CALLS as u64)]));
        let query = format!("reason=non_key_credential&ip={address}&status={status}");
        let items = items(&stack, &query, CALLS as u64).await;
        assert!((10..=3 * FIRST + COUNTS).contains(&items.len()), "{query}: {} items", items.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn introspection_has_a_limit_of_its_own_and_takes_no_room_of_calls() {
    const CALLS: usize = 600;
    let options = StackOptions::workers(2).plugin("audit_buffer_bytes", 65_536);
    let mut stack = Stack::start(options).await.unwrap();
    let mut clients = connections(stack.envoy.port(), 16).await.unwrap();
    let curious = stack
        .key(json!({
            "name": "curious", "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_minute": 1},
        }))
        .await
        .unwrap();
    let other = stack.live_key("other", &["contacts:read"]).await.unwrap();
    // The control plane is unavailable, so that the buffer fills.
    stack.control_plane.process().kill().unwrap();
    let ask = Call::get(INTROSPECTION).header("x-api-key", &curious.secret);
    let statuses = flood(&mut clients, &ask, CALLS).await;
    let (answered, refused) = (statuses[&200], statuses.get(&429).copied().unwrap_or(0));
    // A burst of ten, and one more every six seconds.
    assert!((10..=40).contains(&answered) && answered + refused == CALLS as u64, "{statuses:?}");
    let response = clients[0].call(ask).await.unwrap();
    assert_eq!(refusal(&response), (429, Some("rate_limited".to_owned())));
    assert_eq!(response.json().unwrap()["limit"], "introspection");
    assert!(response.number("retry-after").unwrap() <= 6);
    assert_eq!(response.number("x-ratelimit-remaining").unwrap(), 0);
    let call = Call::get(CONTACTS).header("x-api-key", &curious.secret);
    assert_eq!(clients[0].call(call).await.unwrap().status, 200, "its own limit is not charged");
    let call = Call::get(CONTACTS).header("x-api-key", &other.secret);
    assert_eq!(flood(&mut clients, &call, 60).await, HashMap::from([(200, 60)]));
    stack.control_plane.restart().await.unwrap();
    items(&stack, "key=curious", CALLS as u64 + 2).await;
    items(&stack, "key=other", 60).await;
    let gaps = stack.control_plane.get("/v1/audit/gaps").await.unwrap();
    assert_eq!(gaps["items"], json!([]));
}
