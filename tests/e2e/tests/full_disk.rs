//! A volume of the data directory that is almost full: keys are still revoked, and statistics leave the space for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use omniflow_harness::control_plane::{ControlPlaneOptions, NewKey};
use omniflow_harness::ports::Port;
use omniflow_harness::{
    Call, ControlPlane, SmallVolume, Stack, StackOptions, eventually, small_volume_wrapper,
};
use omniflow_store::Store as _;
use omniflow_store_sqlite::{SqliteStore, fixtures};
use serde_json::{Value, json};

use crate::support::{CONTACTS, connections, contacts, refusal};

const WAIT: Duration = Duration::from_secs(60);
const ENFORCEMENT: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;
/// All that the fixture has: sorted by address, about 10 MiB for each query.
const STATISTICS: &str = "/v1/audit/stats?by=address,key&from=2026-10-01T00:00:00Z&to=2027-02-01T00:00:00Z";

/// The wrapper for a volume of this size; `None` where the user may not mount any.
fn small_volume(mib: u64) -> Option<Vec<String>> {
    small_volume_wrapper(mib).inspect_err(|error| eprintln!("SKIPPED: {error:#}")).ok()
}

fn argument(name: &str, value: u64) -> Vec<String> {
    vec![format!("--{name}"), value.to_string()]
}

/// The least free space of a volume while it is observed.
struct Observed {
    least: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Observed {
    fn start(control_plane: &ControlPlane) -> Self {
        let volume = SmallVolume::of(control_plane);
        let (least, stop) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (least, stop) = (Arc::clone(&least), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    least.fetch_min(volume.free_bytes().unwrap(), Ordering::Relaxed);
                    std::thread::yield_now();
                }
            }
        });
        Self { least, stop, thread }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.least.load(Ordering::Relaxed)
    }
}

/// Statistics of four tokens at once: status and answer of each.
async fn statistics(control_plane: &ControlPlane, tokens: &[String]) -> Vec<(u16, Value)> {
    let queries = tokens.iter().map(|token| {
        let (port, call) = (control_plane.port(), Call::get(STATISTICS).bearer(token).within(WAIT));
        tokio::spawn(omniflow_harness::client::call(port, call))
    });
    let mut answers = Vec::new();
    for query in queries.collect::<Vec<_>>() {
        let response = query.await.unwrap().unwrap();
        answers.push((response.status, response.json().unwrap()));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_leave_the_reserve_and_end_with_503() {
    const RECORDS: i64 = 200_000;
    const RESERVE: u64 = 32;
    /// What statistics need, in MiB.
    const BOUND: u64 = RESERVE + 64;
    let Some(wrapper) = small_volume(400) else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let seed = folder.path().join("data.seed");
    std::fs::create_dir(&data).unwrap();
    let store = SqliteStore::open(&seed).await.unwrap();
    fixtures::records(&store, RECORDS).await;
    store.close().await;
    drop(store);
    let port = Port::reserve().unwrap();
    let control_plane = ControlPlane::start(ControlPlaneOptions {
        log: folder.path().join("control-plane.log"),
        arguments: [argument("reserve-mib", RESERVE), argument("audit-days", 3_650)].concat(),
        wrapper,
        ..ControlPlaneOptions::new(&data, port.number())
    })
    .await
    .unwrap();
    let mut tokens = Vec::new();
    for n in 0..4 {
        tokens.push(control_plane.create_token(&format!("auditor-{n}"), "auditor").await.unwrap());
    }
    control_plane.create_live_key("ci", &["contacts:read"]).await.unwrap();
    let volume = SmallVolume::of(&control_plane);
    volume.leave((BOUND + 4) * MIB).unwrap();
    let observed = Observed::start(&control_plane);
    let answers = statistics(&control_plane, &tokens).await;
    let least = observed.end();
    assert!(least > (BOUND - 12) * MIB, "{} MiB were left", least / MIB);
    let refused: Vec<&Value> =
        answers.iter().filter(|(status, _)| *status == 503).map(|(_, answer)| answer).collect();
    assert!(
        !refused.is_empty() && answers.iter().all(|(status, _)| [200, 503].contains(status)),
        "{answers:?}"
    );
    for answer in refused {
        assert_eq!(answer["code"], "busy");
        assert!(answer["detail"].as_str().unwrap().starts_with("Less than 96 MiB are free"), "{answer}");
    }

    volume.leave((BOUND - 1) * MIB).unwrap();
    let answers = statistics(&control_plane, &tokens).await;
    assert!(answers.iter().all(|(status, _)| *status == 503), "{answers:?}");
    for path in
        ["/v1/keys?q=ci", "/v1/audit?limit=500&ip=0.0.0.0/1", "/v1/audit/gaps", "/v1/admin-log", "/readyz"]
    {
        assert_eq!(
            control_plane.call(Call::get(path).bearer(control_plane.admin_token())).await.unwrap().status,
            200
        );
    }
    let key = control_plane.rotate("ci", "1h").await.unwrap();
    control_plane.revoke(&key.id, None).await.unwrap();
    volume.clear().unwrap();
    let answers = statistics(&control_plane, &tokens).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(answers[0].1["total"]["calls"], RECORDS);
}

/// Calls with a long path until the control plane rejects a batch of their records. Returns how many were made.
async fn fill(stack: &Stack, key: &NewKey) -> u64 {
    let mut clients = connections(stack.envoy.port(), 8).await.unwrap();
    let call = Call::get(&format!("{CONTACTS}/{}", "a".repeat(1_000))).header("x-api-key", &key.secret);
    let started = Instant::now();
    let mut calls = 0;
    while rejected_batches(stack).await == 0 {
        for client in &mut clients {
            for _ in 0..25 {
                assert_eq!(client.call(call.clone()).await.unwrap().status, 200);
                calls += 1;
            }
        }
        assert!(started.elapsed() < WAIT, "{calls} calls fill no volume");
    }
    calls
}

async fn rejected_batches(stack: &Stack) -> u64 {
    const NAME: &str = "omf_audit_batches_rejected_total{cause=\"reserve\"} ";
    let metrics = stack.control_plane.call(Call::get("/metrics")).await.unwrap().text();
    metrics.lines().find_map(|line| line.strip_prefix(NAME)).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_keys_are_revoked_on_a_full_disk() {
    const KEYS: usize = 100;
    const RESERVE: u64 = 32;
    let Some(wrapper) = small_volume(160) else { return };
    let stack = Stack::start(StackOptions {
        control_plane_arguments: argument("reserve-mib", RESERVE),
        control_plane_wrapper: wrapper,
        ..StackOptions::workers(2)
    })
    .await
    .unwrap();
    let auditor = stack.control_plane.create_token("auditor", "auditor").await.unwrap();
    let mut keys = Vec::new();
    for n in 0..KEYS {
        let fields = json!({"name": format!("key-{n}"), "environment": "live", "scopes": ["contacts:read"],
            "rate_limit": {"per_minute": 1_000_000}});
        keys.push(stack.control_plane.create_key(fields).await.unwrap());
    }
    stack.in_step().await.unwrap();
    for key in &keys {
        assert_eq!(stack.call(contacts(&key.secret)).await.unwrap().status, 200);
    }
    SmallVolume::of(&stack.control_plane).leave((RESERVE + 1) * MIB).unwrap();
    let calls = fill(&stack, &keys[0]).await + KEYS as u64;
    let observed = Observed::start(&stack.control_plane);
    let mut slowest = Duration::ZERO;
    for key in &keys {
        let query = stack.control_plane.call(Call::get(STATISTICS).bearer(&auditor));
        let started = Instant::now();
        let (answer, query) = tokio::join!(stack.control_plane.revoke(&key.id, Some(ENFORCEMENT)), query);
        slowest = slowest.max(started.elapsed());
        assert_eq!(answer.unwrap()["enforcement"]["complete"], json!(true));
        assert_eq!(query.unwrap().status, 503, "statistics");
        let response = stack.call(contacts(&key.secret)).await.unwrap();
        assert_eq!(refusal(&response), (401, Some("key_revoked".to_owned())));
    }
    let least = observed.end();
    println!("the slowest of {KEYS} revocations took {slowest:?}; {} KiB were left", least >> 10);
    assert!(least > (RESERVE - 8) * MIB, "{} MiB were left", least / MIB);
    assert!(rejected_batches(&stack).await > 0);

    SmallVolume::of(&stack.control_plane).clear().unwrap();
    let calls = calls + KEYS as u64;
    eventually(WAIT, || async {
        let stats = stack.control_plane.get("/v1/audit/stats").await?;
        ensure!(stats["total"]["calls"] == calls, "{} of {calls} calls are recorded", stats["total"]);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(stack.control_plane.get("/v1/audit/gaps").await.unwrap()["items"], json!([]));
}
