//! An Envoy that ends without a drain loses the records of calls: the log contains a gap with the known facts.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::{Call, Connection, Stack, StackOptions, eventually};
use serde_json::{Value, json};

use crate::support::{CONTACTS, now_millis, omf, run};

const WAIT: Duration = Duration::from_secs(60);
/// Seconds after which a silent gateway counts as gone.
const LEASE: u64 = 2;
/// How long nothing may be reported about a lost gateway, in milliseconds: its lease, and several checks.
const SILENCE_MS: u64 = LEASE * 1_000 + 4_000;
/// From the last batches to a second after the end, on a machine that is busy.
const MOMENT: Duration = Duration::from_secs(5);
const CLIENTS: u32 = 8;
const PERIOD: Duration = Duration::from_millis(8);
/// So many calls are sure to come from all clients.
const FIRST: usize = 100;

/// One call as its client saw it, in milliseconds since 1970.
struct Sent {
    path: String,
    at: u64,
    /// When the response arrived, if there was one.
    answered_at: Option<u64>,
}

/// Clients that record each of their calls, which are distinguished by their paths.
struct Clients {
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Sent>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Clients {
    fn start(port: u16, secret: &str) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Sent>>>::default());
        let tasks = (0..CLIENTS).map(|client| {
            let (stop, sent, secret) = (Arc::clone(&stop), Arc::clone(&sent), secret.to_owned());
            tokio::spawn(async move {
                let mut connection = Connection::http1(port).await.unwrap();
                // The pace.
                let mut pace = tokio::time::interval(PERIOD);
                for n in 0.. {
                    pace.tick().await;
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let path = format!("{CONTACTS}/{client}-{n}");
                    let at = now_millis();
                    let answer = connection.call(Call::get(&path).header("x-api-key", &secret)).await;
                    let answered_at = answer.is_ok().then(now_millis);
                    sent.lock().unwrap().push(Sent { path, at, answered_at });
                    if answered_at.is_none() {
                        return;
                    }
                }
            })
        });
        Self { tasks: tasks.collect(), stop, sent }
    }

    fn answered(&self) -> usize {
        self.sent.lock().unwrap().iter().filter(|sent| sent.answered_at.is_some()).count()
    }

    /// The paths of the first calls that were sent.
    fn first(&self, count: usize) -> Vec<String> {
        self.sent.lock().unwrap().iter().take(count).map(|sent| sent.path.clone()).collect()
    }

    /// All calls that were sent, when each client has ended.
    async fn end(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

async fn start() -> (Stack, String) {
    let mut options = StackOptions::workers(2);
    options.control_plane_arguments = vec!["--gateway-lease".to_owned(), LEASE.to_string()];
    let stack = Stack::start(options).await.unwrap();
    let fields = json!({
        "name": "busy", "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_minute": 1_000_000},
    });
    let secret = stack.key(fields).await.unwrap().secret;
    (stack, secret)
}

/// Waits until there are many calls and each worker has delivered: for one that never has, the time of its first
/// undelivered call is unknown, and its gap has no start.
async fn busy(stack: &Stack, clients: &Clients) {
    eventually(WAIT, || async {
        let answered = clients.answered();
        ensure!(answered > 1_000, "{answered} answered");
        let records = stack.control_plane.audit("limit=500").await?;
        let recorded: HashSet<&str> = records.iter().filter_map(|record| record["path"].as_str()).collect();
        let first = clients.first(FIRST);
        let waiting = first.iter().filter(|path| !recorded.contains(path.as_str())).count();
        ensure!(waiting == 0, "{waiting} of the first calls have no record");
        Ok(())
    })
    .await
    .unwrap();
}

async fn gaps(stack: &Stack) -> Result<Vec<Value>> {
    stack.control_plane.list("/v1/audit/gaps").await
}

async fn the_gap(stack: &Stack) -> Value {
    let gaps = eventually(WAIT, || async {
        let gaps = gaps(stack).await?;
        ensure!(!gaps.is_empty(), "no gap");
        Ok(gaps)
    })
    .await
    .unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    gaps[0].clone()
}

fn millis(time: &Value) -> u64 {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    u64::try_from(time.as_millisecond()).unwrap()
}

/// Compares the gap with the records of the clients.
async fn covers_what_is_missing(stack: &Stack, sent: &[Sent], widest: Duration) {
    let gap = the_gap(stack).await;
    assert_eq!(
        (&gap["cause"], &gap["at_least"], &gap["vm"]),
        (&json!("gateway_lost"), &json!(true), &Value::Null)
    );
    let records = stack.control_plane.audit("limit=500").await.unwrap();
    let recorded: HashSet<&str> = records.iter().filter_map(|record| record["path"].as_str()).collect();
    let missing: Vec<&Sent> = sent.iter().filter(|sent| !recorded.contains(sent.path.as_str())).collect();
    let (from, to, least) = (millis(&gap["from"]), millis(&gap["to"]), gap["missing"].as_u64().unwrap());
    println!(
        "{} of {} calls have no record; the gap says at least {least} in {} ms",
        missing.len(),
        sent.len(),
        to - from
    );
    assert!(!missing.is_empty(), "the test has made no loss");
    assert!(least <= missing.len() as u64, "{least} of {}", missing.len());
    for call in missing {
        let end = call.answered_at.unwrap_or(u64::MAX);
        assert!(end >= from && call.at <= to, "{} to {end} is not in {from} to {to}", call.at);
    }
    assert!(Duration::from_millis(to - from) < widest, "a window of no use: {gap}");
}

/// Waits until every call has its record and the control plane has been informed of that.
async fn until_quiescent(stack: &Stack) {
    eventually(WAIT, || async {
        let stats = stack.envoy.stats().await?;
        for gauge in ["omniflow_audit_records_waiting", "omniflow_audit_not_quiescent"] {
            let value = stats.get(&format!("wasmcustom.{gauge}")).context("no such gauge")?;
            ensure!(*value == 0, "{gauge}: {value}");
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits until a gateway has been silent long enough for a gap to be recorded.
pub(crate) async fn silent_for_long(stack: &Stack, incarnation: &Value) {
    eventually(WAIT, || async {
        let list = stack.control_plane.list("/v1/gateways").await?;
        let gone =
            list.iter().find(|gateway| gateway["incarnation"] == *incarnation).context("not listed")?;
        let silent = now_millis().saturating_sub(millis(&gone["last_seen_at"]));
        ensure!(gone["connected"] == false && silent > SILENCE_MS, "silent for {silent} ms");
        Ok(())
    })
    .await
    .unwrap();
}

pub(crate) async fn incarnation(stack: &Stack) -> Value {
    stack.control_plane.list("/v1/gateways").await.unwrap()[0]["incarnation"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_is_killed_under_load_leaves_a_gap() {
    let (mut stack, secret) = start().await;
    let clients = Clients::start(stack.envoy.port(), &secret);
    busy(&stack, &clients).await;
    stack.envoy.process().kill().unwrap();
    let sent = clients.end().await;
    // Another process under the same name.
    stack.envoy.restart().await.unwrap();
    stack.in_step().await.unwrap();
    covers_what_is_missing(&stack, &sent, MOMENT).await;
    let mut command = omf(&stack);
    command.args(["audit", "gaps"]);
    let reported = String::from_utf8(run(command).await.stdout).unwrap();
    assert!(reported.contains("at least ") && reported.contains("gateway_lost"), "{reported}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_is_just_stopped_leaves_a_gap_too() {
    let (stack, secret) = start().await;
    let clients = Clients::start(stack.envoy.port(), &secret);
    busy(&stack, &clients).await;
    assert!(stack.envoy.stop().unwrap().success());
    let sent = clients.end().await;
    covers_what_is_missing(&stack, &sent, MOMENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_is_restarted_meanwhile_tells_as_well() {
    let (mut stack, secret) = start().await;
    let clients = Clients::start(stack.envoy.port(), &secret);
    busy(&stack, &clients).await;
    stack.control_plane.process().kill().unwrap();
    stack.envoy.process().kill().unwrap();
    let sent = clients.end().await;
    stack.control_plane.restart().await.unwrap();
    covers_what_is_missing(&stack, &sent, WAIT).await;
    stack.control_plane.restart().await.unwrap();
    the_gap(&stack).await;
}

/// Calls in progress are known to have begun, so they are counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_are_counted() {
    const SLOW: usize = 5;
    let (stack, secret) = start().await;
    let slow = |n: usize| {
        let call = Call::get(&format!("{CONTACTS}/slow-{n}")).header("x-api-key", &secret);
        let (call, port) = (call.header("x-echo-delay-ms", "60000").within(WAIT * 2), stack.envoy.port());
        tokio::spawn(async move { omniflow_harness::client::call(port, call).await.is_ok() })
    };
    let slow: Vec<_> = (0..SLOW).map(slow).collect();
    eventually(WAIT, || async {
        let waiting = stack.envoy.stat("wasmcustom.omniflow_audit_records_waiting").await?;
        ensure!(waiting == SLOW as u64, "{waiting} under way");
        Ok(())
    })
    .await
    .unwrap();
    // Its batch carries the word of those that are under way.
    stack.call(Call::get(&format!("{CONTACTS}/quick")).header("x-api-key", &secret)).await.unwrap();
    eventually(WAIT, || async {
        let records = stack.control_plane.audit("").await?;
        ensure!(records.len() == 1, "{} records", records.len());
        Ok(())
    })
    .await
    .unwrap();
    stack.envoy.process().kill().unwrap();
    for call in slow {
        assert!(!call.await.unwrap(), "it was answered");
    }
    assert_eq!(the_gap(&stack).await["missing"], SLOW);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_is_killed_at_rest_leaves_none() {
    let (mut stack, secret) = start().await;
    let clients = Clients::start(stack.envoy.port(), &secret);
    busy(&stack, &clients).await;
    let sent = clients.end().await;
    until_quiescent(&stack).await;
    let incarnation = incarnation(&stack).await;
    stack.envoy.process().kill().unwrap();
    // The next run replaces it in the list.
    silent_for_long(&stack, &incarnation).await;
    stack.envoy.restart().await.unwrap();
    assert_eq!(gaps(&stack).await.unwrap(), [] as [Value; 0]);
    assert_eq!(stack.control_plane.audit("limit=500").await.unwrap().len(), sent.len());
}
