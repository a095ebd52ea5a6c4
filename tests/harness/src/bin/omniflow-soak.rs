//! `make soak`: half of the maximum load of this machine with continuous key changes. The memory of both processes must not
//! grow.
//!
//! `SECONDS=1800` sets the duration and `RATE=500` the calls per second. The default rate is half of the rate measured in
//! ten seconds at full speed. The exit code is 1 if memory grows by more than 5 % after the warm-up, or if any call gets a
//! wrong response.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, Connection, Stack, StackOptions};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

const CLIENTS: u32 = 8;
const CALIBRATION: Duration = Duration::from_secs(10);
/// Interval between two measurements of memory.
const SAMPLE: Duration = Duration::from_secs(5);
/// Interval between two changes.
const CHANGE: Duration = Duration::from_millis(100);
/// Every this many changes, a key is created, rotated and revoked; all other changes update existing keys. Revoked keys stay
/// in the image, so a soak test that always created keys would measure the number of keys.
const NEW_KEY: u64 = 300;
/// Keys that are changed.
const KEYS: usize = 200;
/// The maximum growth of memory.
const MOST_GROWTH: f64 = 0.05;
/// The part of the time that is the warm-up.
const WARM_UP: f64 = 1.0 / 6.0;

/// Results of the clients and the admin.
#[derive(Debug, Default)]
struct Seen {
    calls: AtomicU64,
    changes: AtomicU64,
    errors: AtomicU64,
}

/// The resident memory of both processes at one time, in KiB.
#[derive(Debug, Clone, Copy)]
struct Sample {
    envoy: u64,
    control_plane: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match soak().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn soak() -> Result<()> {
    let seconds = number("SECONDS")?.unwrap_or(1_800);
    let stack =
        Stack::start(StackOptions { log_level: "warning".to_owned(), ..StackOptions::workers(2) }).await?;
    let fields = json!({
        "name": "soaking", "environment": "live", "scopes": ["contacts:read", "contacts:write"],
        "rate_limit": {"per_minute": 1_000_000},
    });
    let key = stack.key(fields).await?;
    let keys = keys(&stack).await?;
    let rate = match number("RATE")? {
        Some(rate) => u32::try_from(rate)?.max(CLIENTS),
        None => calibrate(&stack, &key).await?,
    };
    println!("{rate} calls per second for {seconds} s, a change of a key every {CHANGE:?}");

    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let clients = clients(&stack, &key, Some(rate), &seen, &stop);
    let began = Instant::now();
    let (samples, changed) = tokio::join!(
        sample(&stack, Duration::from_secs(seconds), &stop),
        change(&stack, &keys, &seen, &stop),
    );
    changed?;
    for client in clients {
        client.await?;
    }
    report(&stack, &samples?, &seen, began.elapsed()).await
}

/// A number from an environment variable.
fn number(variable: &str) -> Result<Option<u64>> {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => {
            Ok(Some(text.parse().with_context(|| format!("{variable} is no whole number: {text}"))?))
        }
        _ => Ok(None),
    }
}

async fn keys(stack: &Stack) -> Result<Vec<NewKey>> {
    let mut keys = Vec::new();
    for n in 0..KEYS {
        keys.push(stack.control_plane.create_live_key(&format!("key-{n}"), &["agents:read"]).await?);
    }
    stack.in_step().await?;
    Ok(keys)
}

/// Half of the calls per second that succeed at full speed.
async fn calibrate(stack: &Stack, key: &NewKey) -> Result<u32> {
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let clients = clients(stack, key, None, &seen, &stop);
    tokio::time::sleep(CALIBRATION).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await?;
    }
    let full = seen.calls.load(Ordering::Relaxed) / CALIBRATION.as_secs();
    println!("{full} calls per second at full speed");
    Ok(u32::try_from(full / 2)?.max(CLIENTS))
}

fn clients(
    stack: &Stack,
    key: &NewKey,
    rate: Option<u32>,
    seen: &Arc<Seen>,
    stop: &Arc<AtomicBool>,
) -> Vec<JoinHandle<()>> {
    let (port, period) = (stack.envoy.port(), rate.map(|rate| Duration::from_secs(1) * CLIENTS / rate));
    let read = Call::get("/api/v1/contacts/7?page=7").bearer(&key.secret);
    let write = Call::post("/api/v1/contacts?page=7", &json!({"name": "someone"})).bearer(&key.secret);
    // Waits for an expected refusal.
    let beyond = Call::get("/api/v1/tickets").bearer(&key.secret);
    (0..CLIENTS)
        .map(|_| {
            let (seen, stop) = (Arc::clone(seen), Arc::clone(stop));
            let calls =
                [(read.clone(), 200), (write.clone(), 200), (read.clone(), 200), (beyond.clone(), 403)];
            tokio::spawn(async move { repeat(port, period, &calls, &seen, &stop).await })
        })
        .collect()
}

async fn repeat(port: u16, period: Option<Duration>, calls: &[(Call, u16)], seen: &Seen, stop: &AtomicBool) {
    let mut pace = period.map(|period| {
        let mut pace = tokio::time::interval(period);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        pace
    });
    let mut connection = None;
    for (call, status) in calls.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let answer = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::http1(port).await?,
            };
            let response = open.call(call.clone()).await?;
            connection = Some(open);
            ensure!(
                response.status == *status,
                "{} instead of {status}: {}",
                response.status,
                response.text()
            );
            Ok(())
        };
        match answer.await {
            Ok(()) => drop(seen.calls.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                seen.errors.fetch_add(1, Ordering::Relaxed);
                eprintln!("a call: {error:#}");
            }
        }
    }
}

/// Changes keys until it is stopped. Each revocation must be effective when it is acknowledged.
async fn change(stack: &Stack, keys: &[NewKey], seen: &Seen, stop: &AtomicBool) -> Result<()> {
    let mut pace = tokio::time::interval(CHANGE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 1.. {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        pace.tick().await;
        if n % NEW_KEY == 0 {
            live_and_die(stack, n).await?;
        } else {
            let key = keys.get(usize::try_from(n)? % KEYS).context("a key")?;
            let fields = json!({"rate_limit": {"per_minute": 60 + n % 1_000}, "scopes": if n % 2 == 0 {
                json!(["agents:read"])
            } else {
                json!(["agents:read", "tickets:read"])
            }});
            stack.control_plane.change_key(&key.id, &fields).await?;
        }
        seen.changes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn live_and_die(stack: &Stack, n: u64) -> Result<()> {
    let wait = Duration::from_secs(10);
    let made = stack
        .key(json!({"name": format!("brief-{n}"), "environment": "live", "scopes": ["contacts:read"]}))
        .await?;
    let call = |secret: &str| stack.call(Call::get("/api/v1/contacts").bearer(secret));
    ensure!(call(&made.secret).await?.status == 200, "a new key was refused");
    let rotated = stack.control_plane.rotate(&made.id, "1h").await?;
    stack.in_step().await?;
    ensure!(call(&rotated.secret).await?.status == 200, "a rotated key was refused");
    let answer = stack.control_plane.revoke(&made.id, Some(wait)).await?;
    ensure!(answer["enforcement"]["complete"] == true, "a revocation is not effective: {answer}");
    for secret in [&made.secret, &rotated.secret] {
        ensure!(call(secret).await?.status == 401, "a revoked key was accepted");
    }
    Ok(())
}

async fn sample(stack: &Stack, length: Duration, stop: &AtomicBool) -> Result<Vec<Sample>> {
    let end = Instant::now() + length;
    let mut pace = tokio::time::interval(SAMPLE);
    let mut samples = Vec::new();
    while Instant::now() < end {
        pace.tick().await;
        samples.push(Sample {
            envoy: resident(stack.envoy.process().id())?,
            control_plane: resident(stack.control_plane.process().id())?,
        });
    }
    stop.store(true, Ordering::Relaxed);
    Ok(samples)
}

/// `VmRSS` of proc(5), in KiB.
fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

async fn report(stack: &Stack, samples: &[Sample], seen: &Seen, took: Duration) -> Result<()> {
    let (calls, errors) = (seen.calls.load(Ordering::Relaxed), seen.errors.load(Ordering::Relaxed));
    let reloads = stack.envoy.stat("wasm.omniflow.vm_reload").await?;
    println!(
        "{calls} calls in {} s ({} per second), {} key changes, {errors} wrong responses, {reloads} crashed VMs",
        took.as_secs(),
        calls / took.as_secs().max(1),
        seen.changes.load(Ordering::Relaxed),
    );
    println!("\n| process | resident memory after warm-up | at the end | growth |\n|---|---|---|---|");
    let envoy = growth("Envoy", samples, |sample| sample.envoy)?;
    let control_plane = growth("control plane", samples, |sample| sample.control_plane)?;
    ensure!(errors == 0 && reloads == 0, "{errors} wrong responses, {reloads} crashed VMs");
    ensure!(envoy.max(control_plane) <= MOST_GROWTH, "memory grew by more than {MOST_GROWTH}");
    Ok(())
}

/// The relative growth of memory: from the median of a tenth of the samples after the warm-up to the median of the last
/// tenth.
fn growth(name: &str, samples: &[Sample], of: fn(&Sample) -> u64) -> Result<f64> {
    let values: Vec<u64> = samples.iter().map(of).collect();
    let tenth = (values.len() / 10).max(1);
    let start = (values.len() as f64 * WARM_UP) as usize;
    let before = median(values.get(start..start + tenth).context("too few samples: a longer soak")?);
    let after = median(values.get(values.len() - tenth..).unwrap_or_default());
    let growth = after as f64 / before as f64 - 1.0;
    println!(
        "| {name} | {:.1} MiB | {:.1} MiB | {:+.1} % |",
        before as f64 / 1_024.0,
        after as f64 / 1_024.0,
        growth * 100.0
    );
    Ok(growth)
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
