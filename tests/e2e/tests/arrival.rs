//! The records and gaps in the audit log add up to Envoy's own counters, which outlive a VM.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use omniflow_harness::{Call, Connection, Stack, StackOptions, bootstrap, eventually, paths};
use serde_json::{Value, json};

use crate::support::{CONTACTS, connections, contacts};

const WAIT: Duration = Duration::from_secs(60);
const COUNTER: &str = "wasmcustom.omniflow_decisions_";
const LOST: &str = "wasmcustom.omniflow_audit_records_lost";

/// Number of calls that an item of the log represents.
fn calls(item: &Value) -> u64 {
    item["aggregated_calls"].as_u64().unwrap_or(1)
}

fn missing(gaps: &[Value]) -> u64 {
    gaps.iter().filter_map(|gap| gap["missing"].as_u64()).sum()
}

/// The calls that Envoy has counted, by reason.
async fn counted(stack: &Stack) -> Result<HashMap<String, u64>> {
    let stats = stack.envoy.stats().await?;
    let counters = stats.iter().filter_map(|(name, n)| Some((name.strip_prefix(COUNTER)?.to_owned(), *n)));
    Ok(counters.filter(|(_, n)| *n > 0).collect())
}

/// Waits until the log accounts for every call that Envoy has counted; returns its items and gaps.
async fn accounted(stack: &Stack) -> (Vec<Value>, Vec<Value>) {
    eventually(WAIT, || async {
        let counted: u64 = counted(stack).await?.values().sum();
        let items = stack.control_plane.audit("limit=500").await?;
        let gaps = stack.control_plane.list("/v1/audit/gaps").await?;
        let reported = items.iter().map(calls).sum::<u64>();
        let lost = missing(&gaps);
        ensure!(reported + lost == counted, "{counted} calls, {reported} in the log, {lost} lost");
        Ok((items, gaps))
    })
    .await
    .unwrap()
}

/// Calls over these connections in turn, which are those of several workers.
async fn send(connections: &mut [Connection], calls: impl IntoIterator<Item = Call>, status: u16) {
    for (n, call) in calls.into_iter().enumerate() {
        let at = n % connections.len();
        let response = connections[at].call(call).await.unwrap();
        assert_eq!(response.status, status, "{}", response.text());
    }
}

async fn unlimited(stack: &Stack) -> String {
    let fields = json!({
        "name": "busy", "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_minute": 1_000_000},
    });
    stack.key(fields).await.unwrap().secret
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refusals_is_aggregated_with_true_counts() {
    let options = StackOptions { trusted_hops: 1, ..StackOptions::workers(2) };
    let stack = Stack::start(options).await.unwrap();
    let key = unlimited(&stack).await;
    let mut clients = connections(stack.envoy.port(), 16).await.unwrap();
    let from = |call: Call, address: &str| call.header("x-forwarded-for", address);
    for n in 1..=6 {
        let address = format!("198.51.100.{n}");
        let missing = (0..300 * n).map(|_| from(Call::get(CONTACTS), &address));
        send(&mut clients, missing, 401).await;
        send(&mut clients, (0..400).map(|_| from(contacts("omf_live_x"), &address)), 401).await;
    }
    send(&mut clients, (0..200).map(|_| from(contacts(&key), "198.51.100.1")), 200).await;
    let strangers = (0..1_500).map(|n| from(Call::get(CONTACTS), &format!("203.0.{}.{}", n / 250, n % 250)));
    send(&mut clients, strangers, 401).await;

    let (items, gaps) = accounted(&stack).await;
    assert_eq!(gaps, Vec::<Value>::new());
    let mut by_reason: HashMap<String, u64> = HashMap::new();
    let mut by_client: HashMap<(String, String), u64> = HashMap::new();
    for item in &items {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        *by_reason.entry(text("reason")).or_default() += calls(item);
        *by_client.entry((text("source_ip"), text("reason"))).or_default() += calls(item);
        if item["aggregated_calls"].is_null() {
            assert!(!text("path").is_empty() && item["first_time"].is_null(), "{item}");
        } else {
            assert!(text("first_time") <= text("time"), "{item}");
            assert_eq!((&item["key_id"], &item["status"]), (&Value::Null, &json!(401)), "{item}");
        }
    }
    assert_eq!(by_reason, counted(&stack).await.unwrap());
    for n in 1..=6 {
        let of = |reason: &str| by_client[&(format!("198.51.100.{n}"), reason.to_owned())];
        assert_eq!((of("missing_credentials"), of("malformed_key")), (300 * n, 400), "client {n}");
    }
    assert_eq!(by_reason["allowed"], 200, "what passes is never aggregated");
    let refused = items.iter().filter(|item| item["decision"] == "denied").count() as u64;
    assert!(refused < 10_200 / 4, "{refused} items for 10,200 refusals");
    let found =
        stack.control_plane.audit("ip=198.51.100.6&reason=missing_credentials&limit=500").await.unwrap();
    assert_eq!(found.iter().map(calls).sum::<u64>(), 1_800);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_buffer_loses_is_what_the_gaps_say() {
    let options = StackOptions::workers(2).plugin("audit_buffer_bytes", 65_536);
    let mut stack = Stack::start(options).await.unwrap();
    let key = unlimited(&stack).await;
    let mut clients = connections(stack.envoy.port(), 16).await.unwrap();
    send(&mut clients, (0..20).map(|_| contacts(&key)), 200).await;
    accounted(&stack).await;
    stack.control_plane.process().kill().unwrap();
    send(&mut clients, (0..3_000).map(|_| contacts(&key)), 200).await;
    let refused = (0..500).map(|_| Call::new("POST", CONTACTS).header("x-api-key", &key));
    send(&mut clients, refused, 403).await;
    stack.control_plane.restart().await.unwrap();

    let (items, gaps) = accounted(&stack).await;
    assert!(items.len() >= 100, "{} items", items.len());
    assert!(missing(&gaps) > 1_000, "{gaps:?}");
    assert_eq!(missing(&gaps), stack.envoy.stat(LOST).await.unwrap());
    for gap in &gaps {
        assert_eq!((&gap["cause"], &gap["gateway"]), (&json!("buffer_full"), &json!("test")), "{gap}");
        assert!(gap["from"].as_str().unwrap() < gap["to"].as_str().unwrap(), "{gap}");
    }
    let mut vms: Vec<&str> = gaps.iter().map(|gap| gap["vm"].as_str().unwrap()).collect();
    vms.sort_unstable();
    let of_all = vms.len();
    vms.dedup();
    assert_eq!((vms.len(), of_all), (2, 2), "one gap for each worker: {gaps:?}");
}

/// The records in the buffer of a crashed VM are reported by the other VMs as a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_vm_takes_along_is_a_gap_that_names_it() {
    let options = StackOptions::workers(2)
        .edit(|config| bootstrap::set_filter_code(config, &paths::faulty_filter_wasm()?));
    let mut stack = Stack::start(options).await.unwrap();
    let key = unlimited(&stack).await;
    let before = vms(&stack).await;
    let mut clients = connections(stack.envoy.port(), 16).await.unwrap();
    send(&mut clients, (0..320).map(|_| contacts(&key)), 200).await;
    let (items, _) = accounted(&stack).await;
    assert_eq!(items.len(), 320);
    waiting(&stack, 0).await;

    stack.control_plane.process().kill().unwrap();
    send(&mut clients, (0..800).map(|_| contacts(&key)), 200).await;
    send(&mut clients, (0..800).map(|_| Call::get(CONTACTS)), 401).await;
    // The VMs have reported all of them to each other.
    waiting(&stack, 1_600).await;
    let response = clients[0].call(contacts(&key).header("x-fault", "trap")).await.unwrap();
    assert_eq!(response.status, 503, "{}", response.text());
    stack.control_plane.restart().await.unwrap();

    let (_, gaps) = accounted(&stack).await;
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((&gap["cause"], &gap["gateway"]), (&json!("vm_lost"), &json!("test")));
    assert!(missing(&gaps) > 100 && missing(&gaps) < 1_500, "{gap}");
    let lost = gap["vm"].as_str().unwrap();
    assert!(before.contains(&lost.to_owned()), "{lost} is none of {before:?}");
    eventually(WAIT, || async {
        let now = vms(&stack).await;
        ensure!(!now.contains(&lost.to_owned()), "{now:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(missing(&gaps), stack.envoy.stat(LOST).await.unwrap());
    waiting(&stack, 0).await;
}

/// Waits until this many calls have no acknowledged record yet.
async fn waiting(stack: &Stack, calls: u64) {
    eventually(WAIT, || async {
        let found = stack.envoy.stat("wasmcustom.omniflow_audit_records_waiting").await?;
        ensure!(found == calls, "{found} waiting, not {calls}");
        Ok(())
    })
    .await
    .unwrap();
}

/// The VMs that the gateway has reported.
async fn vms(stack: &Stack) -> Vec<String> {
    let gateways = stack.control_plane.list("/v1/gateways").await.unwrap();
    let vms = gateways[0]["workers"].as_array().cloned().unwrap_or_default();
    vms.iter().map(|vm| vm["id"].as_str().unwrap_or_default().to_owned()).collect()
}
