//! Changes reach every worker, and the gateway keeps working while the control plane is unavailable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Connection, Stack, StackOptions, eventually};
use omniflow_tests::seed;
use serde_json::json;

use crate::support::{connections, contacts, refusal, rfc3339_in};

const WAIT: Duration = Duration::from_secs(20);
const KEYS: u32 = 100_000;
const REVOCATIONS: usize = 100;
/// Enough for the kernel to assign some to each worker.
const CONNECTIONS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_among_a_hundred_thousand_keys_is_effective_at_once() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    stack.control_plane.stop().unwrap();
    seed::fill(stack.control_plane.folder(), 0..KEYS).await.unwrap();
    let started = Instant::now();
    stack.control_plane.restart().await.unwrap();
    stack.in_step().await.unwrap();
    println!(
        "{KEYS} keys: effective on all workers {} ms after the start of the control plane",
        started.elapsed().as_millis()
    );

    let mut keys = Vec::new();
    for number in 0..REVOCATIONS {
        let fields = json!({
            "name": format!("victim-{number}"), "environment": "live", "scopes": ["contacts:read"],
            "rate_limit": {"per_minute": 100_000},
        });
        keys.push(stack.control_plane.create_key(fields).await.unwrap());
    }
    stack.in_step().await.unwrap();
    let received = "cluster.omniflow_control_plane.upstream_cx_rx_bytes_total";
    let bytes_before = stack.envoy.stat(received).await.unwrap();
    let mut times = Vec::new();
    for key in &keys {
        times.push(time_until_refused(&stack, key).await.unwrap());
    }
    let bytes = (stack.envoy.stat(received).await.unwrap() - bytes_before) / REVOCATIONS as u64;
    times.sort_unstable();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "revocations among {KEYS} keys, from the answer to the last worker refusing: median {median:?}, 99th percentile {p99:?}"
    );
    println!(
        "bytes received by the gateway for each revocation, headers and audit answers included: {bytes}"
    );
    assert!(
        median < Duration::from_millis(250) && p99 < Duration::from_secs(2),
        "median {median:?}, p99 {p99:?}"
    );
    assert!(bytes < 2_000, "{bytes} bytes");

    // A new gateway receives the image that includes all these deltas.
    stack.envoy.restart().await.unwrap();
    stack.in_step().await.unwrap();
    assert_eq!(stack.call(contacts(&keys[0].secret)).await.unwrap().status, 401);
    assert_eq!(stack.envoy.stat("wasmcustom.omniflow_snapshots_rejected").await.unwrap(), 0);
}

/// Each worker has room for a third of the keys that call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_with_little_room_for_keys_admit_all_of_them_and_refuse_a_revoked_one() {
    const MANY: u32 = 30_000;
    let options = StackOptions::workers(2).plugin("key_cache_bytes", 1 << 20);
    let mut stack = Stack::start(options).await.unwrap();
    stack.control_plane.stop().unwrap();
    seed::fill(stack.control_plane.folder(), 0..MANY).await.unwrap();
    stack.control_plane.restart().await.unwrap();
    stack.in_step().await.unwrap();
    let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    let statuses = async |clients: &mut Vec<_>, numbers: &[u32]| {
        let mut statuses = Vec::new();
        for client in clients.iter_mut() {
            let client: &mut Connection = client;
            for number in numbers {
                let call = contacts(seed::secret(*number).expose());
                statuses.push((*number, client.call(call).await.unwrap().status));
            }
        }
        statuses
    };
    let numbers: Vec<u32> = (0..MANY).step_by(30).collect();
    assert!(statuses(&mut clients, &numbers).await.iter().all(|(_, status)| *status == 200));
    let revoked = numbers[500];
    let wait = Some(Duration::from_secs(10));
    let answer = stack.control_plane.revoke(&seed::name(revoked), wait).await.unwrap();
    assert_eq!(answer["enforcement"]["complete"], true, "{answer}");
    for (number, status) in statuses(&mut clients, &numbers).await {
        assert_eq!(status, if number == revoked { 401 } else { 200 }, "key {number}");
    }
}

/// Two changes of different segments in quick succession: a worker that receives the first message when the second
/// change is already there must not consider itself up to date.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_in_quick_succession_are_all_enforced() {
    const ROUNDS: usize = 25;
    const TOGETHER: usize = 4;
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    stack.control_plane.stop().unwrap();
    seed::fill(stack.control_plane.folder(), 0..5_000).await.unwrap();
    stack.control_plane.restart().await.unwrap();
    let mut keys = Vec::new();
    for number in 0..ROUNDS * TOGETHER {
        let fields = json!({
            "name": format!("quick-{number}"), "environment": "live", "scopes": ["contacts:read"],
            "rate_limit": {"per_minute": 1_000_000},
        });
        keys.push(stack.control_plane.create_key(fields).await.unwrap());
    }
    let bystander = stack.live_key("bystander", &["agents:read"]).await.unwrap();
    // Busy workers receive messages late.
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = Vec::new();
    for mut connection in connections(stack.envoy.port(), 32).await.unwrap() {
        let (stop, call) = (stop.clone(), contacts(&bystander.secret));
        load.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                connection.call(call.clone()).await.unwrap();
            }
        }));
    }
    for keys in keys.chunks(TOGETHER) {
        let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
        for client in &mut clients {
            for key in keys {
                assert_eq!(client.call(contacts(&key.secret)).await.unwrap().status, 200);
            }
        }
        let wait = Some(Duration::from_secs(10));
        let revoke = |number: usize| stack.control_plane.revoke(&keys[number].id, wait);
        let answers = tokio::join!(revoke(0), revoke(1), revoke(2), revoke(3));
        for answer in [answers.0, answers.1, answers.2, answers.3] {
            let answer = answer.unwrap();
            assert_eq!(answer["enforcement"]["complete"], true, "{answer}");
        }
        for client in &mut clients {
            for key in keys {
                let response = client.call(contacts(&key.secret)).await.unwrap();
                assert_eq!(refusal(&response), (401, Some("key_revoked".to_owned())), "{}", key.key["name"]);
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
}

/// From the response to the revocation until the first refusal on the slowest of many connections.
async fn time_until_refused(stack: &Stack, key: &NewKey) -> Result<Duration> {
    let mut connections = connections(stack.envoy.port(), CONNECTIONS).await?;
    for connection in &mut connections {
        let response = connection.call(contacts(&key.secret)).await?;
        ensure!(response.status == 200, "before its revocation: {}", response.text());
    }
    stack.control_plane.revoke(&key.id, None).await?;
    let answered = Instant::now();
    let mut tasks = Vec::new();
    for mut connection in connections {
        let call = contacts(&key.secret);
        tasks.push(tokio::spawn(async move {
            loop {
                let response = connection.call(call.clone()).await?;
                if response.status == 401 {
                    return anyhow::Ok(answered.elapsed());
                }
                ensure!(answered.elapsed() < WAIT, "still admitted");
            }
        }));
    }
    let mut slowest = Duration::ZERO;
    for task in tasks {
        slowest = slowest.max(task.await??);
    }
    Ok(slowest)
}

#[tokio::test]
async fn calls_go_on_without_the_control_plane_and_expiry_is_on_time() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let lasting = stack.live_key("lasting", &["contacts:read"]).await.unwrap();
    let ahead = Duration::from_secs(3);
    let deadline = Instant::now() + ahead;
    let fields = json!({
        "name": "short", "environment": "live", "scopes": ["contacts:read"], "expires_at": rfc3339_in(ahead),
        "rate_limit": {"per_minute": 100_000},
    });
    let short = stack.key(fields).await.unwrap();
    stack.control_plane.process().kill().unwrap();
    let expired = eventually(WAIT, || async {
        let response = stack.call(contacts(&short.secret)).await?;
        ensure!(response.status != 200, "still admitted");
        Ok((Instant::now(), refusal(&response)))
    })
    .await
    .unwrap();
    assert_eq!(expired.1, (401, Some("key_expired".to_owned())));
    // The instant was rounded to a millisecond; the first call after it is refused, none before it.
    assert!(expired.0 + Duration::from_millis(5) >= deadline, "refused too early");
    assert!(expired.0 < deadline + Duration::from_secs(1), "refused {:?} late", expired.0 - deadline);
    assert_eq!(stack.call(contacts(&lasting.secret)).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_envoy_that_is_first_serves_soon_after_the_control_plane_is_up() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let key = stack.live_key("early", &["contacts:read"]).await.unwrap();
    stack.control_plane.stop().unwrap();
    stack.envoy.restart().await.unwrap();
    let response = stack.call(contacts(&key.secret)).await.unwrap();
    assert_eq!(refusal(&response), (503, Some("policy_unavailable".to_owned())));
    assert_eq!(response.number("x-ratelimit-limit").ok(), None);
    stack.control_plane.restart().await.unwrap();
    let up = Instant::now();
    eventually(WAIT, || async {
        let response = stack.call(contacts(&key.secret)).await?;
        ensure!(response.status == 200, "{}", response.text());
        Ok(())
    })
    .await
    .unwrap();
    println!("served {} ms after the control plane was ready", up.elapsed().as_millis());
    assert!(up.elapsed() < Duration::from_secs(1), "{:?}", up.elapsed());
}

#[tokio::test]
async fn waiting_for_a_revocation_tells_the_truth() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let mut keys = Vec::new();
    for name in ["one", "two", "three", "four"] {
        keys.push(stack.live_key(name, &["contacts:read"]).await.unwrap());
    }
    let wait = Some(Duration::from_secs(5));

    let answer = stack.control_plane.revoke(&keys[0].id, wait).await.unwrap();
    let enforcement = &answer["enforcement"];
    assert_eq!(enforcement["complete"], true, "{answer}");
    let gateway = &enforcement["gateways"][0];
    // Two workers and Envoy's main thread.
    assert_eq!((gateway["workers"].as_u64(), gateway["enforced_workers"].as_u64()), (Some(3), Some(3)));
    assert!(gateway["ms"].as_u64().unwrap() < 5_000);
    assert_eq!(stack.call(contacts(&keys[0].secret)).await.unwrap().status, 401);

    // A stopped Envoy cannot enforce anything, and is named.
    stack.envoy.process().pause().unwrap();
    let answer = stack.control_plane.revoke(&keys[1].id, Some(Duration::from_secs(1))).await.unwrap();
    stack.envoy.process().resume().unwrap();
    assert_eq!(answer["enforcement"]["complete"], false, "{answer}");
    assert_eq!(answer["enforcement"]["gateways"][0]["enforced"], false);
    assert!(answer["enforcement"]["gateways"][0]["id"].as_str().unwrap().starts_with("test/"));
    stack.in_step().await.unwrap();
    assert_eq!(stack.call(contacts(&keys[1].secret)).await.unwrap().status, 401);

    // After a restart of the control plane the gateway is known again as soon as it polls.
    stack.control_plane.restart().await.unwrap();
    stack.in_step().await.unwrap();
    let answer = stack.control_plane.revoke(&keys[2].id, wait).await.unwrap();
    assert_eq!(answer["enforcement"]["complete"], true, "{answer}");
    assert_eq!(stack.call(contacts(&keys[2].secret)).await.unwrap().status, 401);

    // A killed Envoy counts until its lease is over, because the control plane cannot distinguish it from one that still serves.
    stack.envoy.process().kill().unwrap();
    let answer = stack.control_plane.revoke(&keys[3].id, Some(Duration::from_secs(1))).await.unwrap();
    assert_eq!(answer["enforcement"]["complete"], false, "{answer}");
}

#[tokio::test]
async fn a_restarted_control_plane_changes_nothing_for_the_gateway() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let key = stack.live_key("steady", &["contacts:read"]).await.unwrap();
    for _ in 0..3 {
        stack.control_plane.process().kill().unwrap();
        assert_eq!(stack.call(contacts(&key.secret)).await.unwrap().status, 200);
        stack.control_plane.restart().await.unwrap();
        let other = stack.control_plane.create_live_key("x", &["contacts:read"]).await;
        drop(other);
        stack.in_step().await.unwrap();
        assert_eq!(stack.call(contacts(&key.secret)).await.unwrap().status, 200);
    }
    assert_eq!(stack.envoy.stat("wasmcustom.omniflow_snapshots_rejected").await.unwrap(), 0);
}

#[tokio::test]
async fn the_control_plane_sees_the_clock_of_a_gateway() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    stack.in_step().await.unwrap();
    let gateways = stack.control_plane.list("/v1/gateways").await.unwrap();
    let skew = gateways[0]["clock_skew_ms"].as_i64().unwrap();
    // One machine has one clock, so only the transit time of the poll remains.
    assert!((-5_000..=1).contains(&skew), "{skew} ms");
}
