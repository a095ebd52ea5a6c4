//! Limits are exact across all workers under any conditions.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use omniflow_harness::{Stack, StackOptions};
use serde_json::json;

use crate::support::{connections, contacts, refusal};

const CONNECTIONS: usize = 64;
const PER_HOUR: u64 = 500;
const CALLS: u64 = 1_000;
const RUNS: usize = 10;
/// One token of 500 per hour is refilled in 7.2 seconds.
const INTERVAL: Duration = Duration::from_millis(7_200);

/// Makes calls with one key over many connections concurrently; returns the number of allowed calls and the duration.
async fn storm(stack: &Stack, secret: &str) -> (u64, Duration) {
    let left = Arc::new(AtomicU64::new(CALLS));
    let admitted = Arc::new(AtomicU64::new(0));
    let span: Arc<Mutex<Option<(Instant, Instant)>>> = Arc::default();
    let connections = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    let mut tasks = Vec::new();
    for mut connection in connections {
        let (left, admitted, span) = (left.clone(), admitted.clone(), span.clone());
        let call = contacts(secret);
        tasks.push(tokio::spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let start = Instant::now();
                let response = connection.call(call.clone()).await.unwrap();
                match response.status {
                    200 => drop(admitted.fetch_add(1, Ordering::Relaxed)),
                    429 => assert!(response.number("retry-after").unwrap() >= 1),
                    status => panic!("{status}: {}", response.text()),
                }
                let mut span = span.lock().unwrap();
                let (first, last) = span.get_or_insert((start, Instant::now()));
                *first = start.min(*first);
                *last = Instant::now();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (first, last) = span.lock().unwrap().unwrap();
    (admitted.load(Ordering::Relaxed), last - first)
}

async fn exact_in_ten_runs(stack: &Stack) -> Vec<u64> {
    let mut counts = Vec::new();
    for run in 0..RUNS {
        let fields = json!({
            "name": format!("run-{run}"), "environment": "live", "scopes": ["contacts:read"],
            "rate_limit": {"per_hour": PER_HOUR},
        });
        let key = stack.key(fields).await.unwrap();
        let (admitted, took) = storm(stack, &key.secret).await;
        // The number of calls that GCRA allows: the bucket, plus one for each interval that has passed.
        let most = PER_HOUR + u64::try_from(took.as_millis() / INTERVAL.as_millis()).unwrap();
        assert!((PER_HOUR..=most).contains(&admitted), "run {run}: {admitted} admitted in {took:?}");
        counts.push(admitted);
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_an_hour_are_five_hundred_over_two_workers() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    println!("admitted of {CALLS} with 2 workers: {:?}", exact_in_ten_runs(&stack).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_an_hour_are_five_hundred_over_four_workers() {
    let stack = Stack::start(StackOptions::workers(4)).await.unwrap();
    println!("admitted of {CALLS} with 4 workers: {:?}", exact_in_ten_runs(&stack).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changing_snapshot_refills_nothing() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let stop = AtomicBool::new(false);
    let changes = async {
        let mut changes = 0;
        while !stop.load(Ordering::Relaxed) {
            let name = format!("other-{changes}");
            let other = stack.control_plane.create_live_key(&name, &["agents:read"]).await.unwrap();
            stack.control_plane.revoke(&other.id, None).await.unwrap();
            changes += 2;
            // The tested key itself also changes, in irrelevant settings.
            let path = format!("run-{}", changes % RUNS);
            let networks = json!({"ip_allowlist": ["127.0.0.1", format!("10.0.0.{}", changes % 200)]});
            changes += usize::from(stack.control_plane.change_key(&path, &networks).await.is_ok());
        }
        changes
    };
    let runs = async {
        let counts = exact_in_ten_runs(&stack).await;
        stop.store(true, Ordering::Relaxed);
        counts
    };
    let (changes, counts) = tokio::join!(changes, runs);
    println!("admitted of {CALLS} during {changes} changes of the snapshot: {counts:?}");
    assert!(changes > 20, "{changes}");
}

/// A client that waits as advised gets through; here at a rate that lets a test wait.
#[tokio::test]
async fn client_that_waits_for_retry_after_is_admitted() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let fields = json!({
        "name": "patient", "environment": "live", "scopes": ["contacts:read"],
        "rate_limit": {"per_minute": 60, "burst": 3},
    });
    let key = stack.key(fields).await.unwrap();
    let mut waited = 0;
    for _ in 0..6 {
        let response = stack.call(contacts(&key.secret)).await.unwrap();
        if response.status == 200 {
            continue;
        }
        assert_eq!(refusal(&response), (429, Some("rate_limited".to_owned())));
        // The one wait that is the subject of a test.
        tokio::time::sleep(Duration::from_secs(response.number("retry-after").unwrap())).await;
        waited += 1;
        assert_eq!(stack.call(contacts(&key.secret)).await.unwrap().status, 200);
    }
    assert!(waited >= 2, "{waited}");
}
