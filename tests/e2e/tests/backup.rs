//! A backup taken under load is restored while clients keep calling.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use omniflow_harness::control_plane::{ControlPlane, ControlPlaneOptions, NewKey};
use omniflow_harness::{Stack, StackOptions, client, eventually, omf_command};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{self, connections, contacts, create_call, created, refusal};

const WAIT: Duration = Duration::from_secs(20);
const CLIENTS: usize = 6;
/// Enough for the kernel to assign some to each worker.
const CONNECTIONS: usize = 8;
/// Number of keys that the load creates before the next step.
const ENOUGH: usize = 60;

/// Clients that create keys as fast as they can.
struct Load {
    /// The keys whose creation received a 201.
    answered: Arc<Mutex<Vec<NewKey>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<()>>>,
}

/// Clients that use a revoked key all the time.
struct Watch {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<()>>>,
}

// === impl Load ===

impl Load {
    fn start(stack: &Stack, prefix: &'static str) -> Self {
        let (answered, stop) = (Arc::<Mutex<Vec<NewKey>>>::default(), Arc::<AtomicBool>::default());
        let clients = (0..CLIENTS).map(|client| {
            let (answered, stop) = (Arc::clone(&answered), Arc::clone(&stop));
            let (port, token) = (stack.control_plane.port(), stack.control_plane.admin_token().to_owned());
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let name = format!("{prefix}-{client}-{number}");
                    let response = client::call(port, create_call(&name, &token)).await?;
                    ensure!(response.status == 201, "{name}: {}", response.text());
                    let key = created(&response)?;
                    answered.lock().unwrap().push(key);
                    number += 1;
                }
                Ok(())
            })
        });
        Self { clients: clients.collect(), answered, stop }
    }

    fn answered(&self) -> Vec<NewKey> {
        self.answered.lock().unwrap().clone()
    }

    async fn until(&self, count: usize) {
        let reached = || async {
            let answered = self.answered.lock().unwrap().len();
            ensure!(answered >= count, "{answered} of {count} keys");
            Ok(())
        };
        eventually(WAIT, reached).await.unwrap();
    }

    async fn end(self) -> Vec<NewKey> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap().unwrap();
        }
        Arc::into_inner(self.answered).unwrap().into_inner().unwrap()
    }
}

// === impl Watch ===

impl Watch {
    /// Each client keeps its connection, and so its worker, and takes the keys in turn.
    async fn start(stack: &Stack, revoked: &[NewKey]) -> Self {
        let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut clients = Vec::new();
        for mut client in connections(stack.envoy.port(), CONNECTIONS).await.unwrap() {
            let (stop, calls, revoked) = (Arc::clone(&stop), Arc::clone(&calls), revoked.to_vec());
            clients.push(tokio::spawn(async move {
                for key in revoked.iter().cycle() {
                    let response = client.call(contacts(&key.secret)).await?;
                    let refused = (401, Some("key_revoked".to_owned()));
                    ensure!(refusal(&response) == refused, "a revoked key: {}", response.text());
                    calls.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                Ok(())
            }));
        }
        Self { stop, calls, clients }
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap().unwrap();
        }
    }
}

/// Runs `omf db …` and returns its outcome.
async fn db(arguments: &[&str], paths: [&Path; 2], flags: &[&str]) -> Output {
    let mut command = omf_command().unwrap();
    command.arg("db").args(arguments).arg(paths[0]).arg("--data-dir").arg(paths[1]).args(flags);
    support::run(command).await
}

/// Runs a command that must succeed, and returns its JSON.
async fn db_json(arguments: &[&str], paths: [&Path; 2], flags: &[&str]) -> Value {
    let output = db(arguments, paths, &[flags, &["--json"]].concat()).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts a control plane with a restored folder, on the port of the previous one.
async fn serve(stack: &mut Stack, folder: &Path) {
    let options = ControlPlaneOptions {
        log: stack.folder().join("restored.log"),
        ..ControlPlaneOptions::new(folder, stack.control_plane.port())
    };
    stack.control_plane = ControlPlane::start(options).await.unwrap();
    stack.in_step().await.unwrap();
}

async fn published(stack: &Stack) -> u64 {
    stack.control_plane.get("/v1/gateways").await.unwrap()["version"].as_u64().unwrap()
}

/// The response to calls with these keys, if all receive the same.
async fn all_get(stack: &Stack, keys: &[NewKey], expected: (u16, Option<&str>)) {
    let mut clients = connections(stack.envoy.port(), 1).await.unwrap();
    for key in keys {
        let response = clients[0].call(contacts(&key.secret)).await.unwrap();
        let (status, code) = refusal(&response);
        assert_eq!((status, code.as_deref()), expected, "{}: {}", key.key["name"], response.text());
    }
}

/// Every key that was acknowledged before the backup is listed and accepted; changes after the backup are undone.
async fn is_as_of_the_backup(stack: &Stack, kept: &[NewKey], created_after: &[NewKey], revoked: &[NewKey]) {
    let listed = stack.control_plane.list("/v1/keys?limit=500").await.unwrap();
    let is_listed = |key: &NewKey| listed.iter().any(|listed| listed["id"] == key.id.as_str());
    assert!(kept.iter().all(is_listed));
    assert!(!created_after.iter().any(is_listed));
    all_get(stack, kept, (200, None)).await;
    all_get(stack, created_after, (401, Some("unknown_key"))).await;
    all_get(stack, revoked, (401, Some("key_revoked"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_restores_every_key_and_admits_no_revoked_one() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let load = Load::start(&stack, "load");
    load.until(ENOUGH).await;
    let revoked: Vec<NewKey> = load.answered().into_iter().take(5).collect();
    for key in &revoked {
        let answer = stack.control_plane.revoke(&key.id, Some(WAIT)).await.unwrap();
        assert_eq!(answer["enforcement"]["complete"], true, "{answer}");
    }
    let watch = Watch::start(&stack, &revoked).await;

    let before = load.answered();
    let (old, backup) = (stack.control_plane.folder().to_owned(), stack.folder().join("backup"));
    let began = Instant::now();
    let manifest = db_json(&["backup"], [&backup, &old], &[]).await;
    let during = load.answered().len() - before.len();
    println!(
        "backup of {} keys in {:?}, {during} made meanwhile: {}",
        before.len(),
        began.elapsed(),
        manifest["files"]
    );
    let kept = &before[revoked.len()..];
    load.until(load.answered().len() + ENOUGH).await;
    for key in &kept[..5] {
        stack.control_plane.revoke(&key.id, Some(WAIT)).await.unwrap();
    }
    // Keys acknowledged while the backup was running may or may not be in it; keys requested later are not.
    load.end().await;
    let later = Load::start(&stack, "later");
    later.until(10).await;
    let created_after = later.end().await;
    stack.in_step().await.unwrap();
    all_get(&stack, &created_after, (200, None)).await;
    let ahead = published(&stack).await;

    let new: PathBuf = stack.folder().join("restored");
    let refused = db(&["restore"], [&backup, &old], &["--replace"]).await;
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("another process is using the data directory"),
        "{refused:?}"
    );
    stack.control_plane.stop().unwrap();
    let refused = db(&["restore"], [&backup, &old], &[]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--replace"), "{refused:?}");

    let calls = watch.calls();
    let restored = db_json(&["restore"], [&backup, &new], &[]).await;
    assert!(restored["snapshot_version"].as_u64().unwrap() > ahead, "{restored}");
    // The owner's token is not in a backup.
    std::fs::copy(old.join("admin-token"), new.join("admin-token")).unwrap();
    serve(&mut stack, &new).await;
    is_as_of_the_backup(&stack, kept, &created_after, &revoked).await;

    // Once more, over the original folder.
    let held = published(&stack).await;
    stack.control_plane.stop().unwrap();
    let restored = db_json(&["restore"], [&backup, &old], &["--replace"]).await;
    assert!(restored["snapshot_version"].as_u64().unwrap() > held, "{restored}");
    assert!(Path::new(restored["replaced"].as_str().unwrap()).join("omniflow.db").is_file());
    serve(&mut stack, &old).await;
    is_as_of_the_backup(&stack, kept, &created_after, &revoked).await;

    // Changes after the restore are effective immediately.
    let wait = Some(Duration::from_secs(5));
    let answer = stack.control_plane.revoke(&kept[0].id, wait).await.unwrap();
    assert_eq!(answer["enforcement"]["complete"], true, "{answer}");
    all_get(&stack, &kept[..1], (401, Some("key_revoked"))).await;
    let watched = watch.calls() - calls;
    assert!(watched > 100, "{watched} calls with revoked keys during the restores");
    watch.end().await;
    println!("{watched} calls with revoked keys during the restores, all refused");
    assert_eq!(stack.envoy.stat("wasmcustom.omniflow_snapshots_rejected").await.unwrap(), 0);
}

#[tokio::test]
async fn a_backup_without_records_restores_an_empty_audit_log() {
    let mut stack = Stack::start(StackOptions::workers(1)).await.unwrap();
    let key = stack.live_key("audited", &["contacts:read"]).await.unwrap();
    let record = async |stack: &Stack| {
        let before = stack.control_plane.audit("key=audited").await.unwrap().len();
        assert_eq!(stack.call(contacts(&key.secret)).await.unwrap().status, 200);
        eventually(WAIT, || async {
            let records = stack.control_plane.audit("key=audited").await?.len();
            ensure!(records == before + 1, "{records} records, {before} before");
            Ok(records)
        })
        .await
        .unwrap()
    };
    assert_eq!((record(&stack).await, record(&stack).await), (1, 2));
    let (old, backup) = (stack.control_plane.folder().to_owned(), stack.folder().join("backup"));
    let manifest = db_json(&["backup"], [&backup, &old], &["--without-audit"]).await;
    assert_eq!(manifest["files"].as_array().unwrap().len(), 1, "{manifest}");
    stack.control_plane.stop().unwrap();
    let restored = db_json(&["restore"], [&backup, &old], &["--replace"]).await;
    assert_eq!(restored["with_audit"], json!(false));
    serve(&mut stack, &old).await;
    assert_eq!(stack.control_plane.audit("").await.unwrap(), Vec::<Value>::new());
    assert_eq!(record(&stack).await, 1);
}
