//! A gateway with a million keys: revocations, and full images under load.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use omniflow_tests::seed;
use tokio::runtime::Builder;

use super::gateway::Installation;
use super::{MILLION, Row, Section, flat, process, row, spread};
use crate::load::{Connection, Request, saturate_in_turn};
use crate::statistics::{grouped, quantile};
use crate::subjects::options;

const WORKERS: u32 = 2;
/// Enough for the kernel to assign some to each worker.
const CONNECTIONS: usize = 8;
const REVOCATIONS: u32 = 200;
/// The deadline for the enforcement of a revocation.
const LIMIT: Duration = Duration::from_secs(10);
const IMAGES: u32 = 3;
/// Requests per second of each of [`CLIENTS`] clients.
const RATE: u32 = 250;
const CLIENTS: usize = 2;
/// Pause between two changes while latencies are measured.
const PAUSE: Duration = Duration::from_millis(50);
const RECEIVED: &str = "cluster.omniflow_control_plane.upstream_cx_rx_bytes_total";

/// Memory of a process, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    all: u64,
    /// The part that is mapped files.
    files: u64,
}

pub(super) const TITLE: &str = "Changes with a million keys";

/// Measures this section.
pub(super) async fn measure(folder: &Path) -> Result<Section> {
    let ports = crate::subjects::reserve(2)?;
    let bare_folder = folder.join("bare");
    std::fs::create_dir_all(&bare_folder)?;
    let bare = omniflow_harness::Envoy::start(omniflow_harness::EnvoyOptions {
        workers: WORKERS,
        ..options(&bare_folder, &ports)?
    })
    .await?;
    let mut installation = Installation::start(&folder.join("million"), MILLION, WORKERS).await?;
    let mut rows = revocations(&installation).await?;
    renice(installation.control_plane.process().id())?;
    let bare = bare.process().id();
    let of_bare = Memory { all: process::memory(bare)?, files: process::memory_of_files(bare)? };
    rows.extend(deltas(&installation).await?);
    rows.extend(images(&mut installation, of_bare).await?);
    Ok(Section { title: TITLE, method: method(), rows })
}

/// What is measured, and how.
pub(super) fn method() -> String {
    format!(
        "Envoy has {WORKERS} workers. A revocation is enforced when each of {CONNECTIONS} connections, spread over all \
         workers, has received its first refusal. Once the API has responded, the connections send requests \
         without a pause. Bytes are everything that Envoy receives from the control plane in this time, including \
         headers and responses to audit batches. Latencies are measured by {CLIENTS} threads, each with its own \
         connection and {RATE} requests per second, over 4,000 keys. The measurement without changes runs just before \
         the measurement with changes. The machine has only as many processors as Envoy has workers. For this reason, \
         the control plane, which builds and sends the image during the measurement, runs at nice 19, and so do all \
         clients except those that measure latencies."
    )
}

async fn revocations(installation: &Installation) -> Result<Vec<Row>> {
    let before = installation.envoy.stat(RECEIVED).await?;
    let mut times = Vec::new();
    for number in 0..REVOCATIONS {
        times.push(revoke(installation, number * 4_000 + 1).await?.as_secs_f64() * 1e3);
    }
    let bytes = (installation.envoy.stat(RECEIVED).await? - before) / u64::from(REVOCATIONS);
    Ok(vec![
        row(
            "revocation: from the response to the first refusal on the slowest connection",
            spread(&times),
            "p50 10 ms, p99 50 ms",
        ),
        row("bytes that Envoy receives per revocation", bytes.to_string(), "1,024"),
    ])
}

async fn revoke(installation: &Installation, number: u32) -> Result<Duration> {
    use omniflow_harness::{Call, Connection};
    let call = || Call::get(crate::subjects::PATH).bearer(seed::secret(number).expose());
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::http1(installation.envoy.port()).await?;
        let answer = connection.call(call()).await?;
        ensure!(answer.status == 200, "before its revocation: {}", answer.text());
        connections.push(connection);
    }
    let id = seed::name(number);
    installation.control_plane.revoke(&id, None).await?;
    let answered = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let call = call();
            tokio::spawn(async move {
                while connection.call(call.clone()).await?.status != 401 {
                    ensure!(answered.elapsed() < LIMIT, "the key is still accepted");
                }
                anyhow::Ok(answered.elapsed())
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for task in tasks {
        slowest = slowest.max(task.await??);
    }
    Ok(slowest)
}

/// Latency while single keys change, and without changes.
async fn deltas(installation: &Installation) -> Result<Vec<Row>> {
    let quiet = Watch::start(installation);
    // Not a wait for a condition: the duration of the measurement without changes.
    tokio::time::sleep(PAUSE * REVOCATIONS).await;
    let quiet = quiet.stop()?;
    let watch = Watch::start(installation);
    for number in 0..REVOCATIONS {
        // Not a wait for a condition: the pace of the changes.
        tokio::time::sleep(PAUSE).await;
        // Not one of the keys in use, whose numbers are multiples of 10.
        installation.control_plane.revoke(&seed::name(number * 4_000 + 3), None).await?;
    }
    let busy = watch.stop()?;
    Ok(vec![
        row(
            format!("latency without changes: {} requests", grouped(quiet.len() as u64)),
            latencies(&quiet),
            "",
        ),
        row(
            format!("latency during {REVOCATIONS} revocations: {} requests", grouped(busy.len() as u64)),
            latencies(&busy),
            "at most 2 ms longer",
        ),
    ])
}

/// Latency and peak memory of Envoy while full images arrive.
async fn images(installation: &mut Installation, of_bare: Memory) -> Result<Vec<Row>> {
    let envoy = installation.envoy.process().id();
    let (mut quiet, mut busy, mut took) = (Vec::new(), Vec::new(), Vec::new());
    let mut peak = 0;
    for number in 0..IMAGES {
        // Makes each worker copy every segment.
        let port = installation.envoy.port();
        saturate_in_turn(port, &installation.some(100_000), 200_000).await?;
        installation.control_plane.stop()?;
        seed::fill(installation.control_plane.folder(), MILLION + number..MILLION + number + 1).await?;
        let watch = Watch::start(installation);
        // Not a wait for a condition: the duration of the measurement without changes.
        tokio::time::sleep(Duration::from_secs(3)).await;
        quiet.extend(watch.stop()?);
        process::forget_peak(envoy)?;
        installation.control_plane.restart().await?;
        renice(installation.control_plane.process().id())?;
        let watch = Watch::start(installation);
        let began = Instant::now();
        installation.in_step().await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        // Not a wait for a condition: latencies are measured for this long after an image, while workers copy new segments and
        // free old ones.
        tokio::time::sleep(Duration::from_secs(2)).await;
        busy.extend(watch.stop()?);
        peak = peak.max(process::peak_memory(envoy)?);
    }
    let added = peak.saturating_sub(of_bare.all);
    let files = process::memory_of_files(envoy)?.saturating_sub(of_bare.files);
    Ok(vec![
        row(
            format!("latency without changes: {} requests", grouped(quiet.len() as u64)),
            latencies(&quiet),
            "",
        ),
        row(
            format!(
                "latency while {IMAGES} full images arrive, and the 2 s after each: {} requests",
                grouped(busy.len() as u64)
            ),
            latencies(&busy),
            "at most 10 ms longer",
        ),
        row("full image: from the start of the control plane until all VMs enforce it", spread(&took), ""),
        flat::memory_row("peak while a full image arrives", installation, added, files),
    ])
}

fn latencies(times: &[f64]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part| quantile(&sorted, part).unwrap_or(f64::NAN) / 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms", at(0.5), at(0.99), at(0.999), at(1.0))
}

fn renice(process: u32) -> Result<()> {
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.file_name();
        let status = Command::new("renice").args(["-n", "19", "-p"]).arg(task).output()?.status;
        ensure!(status.success(), "renice: {status}");
    }
    Ok(())
}

/// Threads that send requests at a constant rate and measure each.
struct Watch {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Result<Vec<f64>>>>,
}

impl Watch {
    fn start(installation: &Installation) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let requests = installation.spread();
        let port = installation.envoy.port();
        let threads = (0..CLIENTS)
            .map(|number| {
                let (stop, requests) = (Arc::clone(&stop), Arc::clone(&requests));
                thread::spawn(move || watch(port, &requests, number, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Stops the threads and returns the latencies in microseconds.
    fn stop(self) -> Result<Vec<f64>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for thread in self.threads {
            times.extend(thread.join().map_err(|_| anyhow::anyhow!("a client has panicked"))??);
        }
        Ok(times)
    }
}

/// One client. It sleeps until a request is due with the kernel's timers, which are accurate to about 50 microseconds.
fn watch(port: u16, requests: &[Request], number: usize, stop: &AtomicBool) -> Result<Vec<f64>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut connection = runtime.block_on(Connection::open(port))?;
    let interval = Duration::from_secs(1) / RATE;
    let mut due = Instant::now() + interval.mul_f64(number as f64 / CLIENTS as f64);
    let mut times = Vec::new();
    let mut turn = number * requests.len() / CLIENTS;
    while !stop.load(Ordering::Relaxed) {
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            // Not a wait for a condition: the pace of the requests.
            thread::sleep(early);
        }
        // A late timer must not count as latency of Envoy; a late response to the previous request must.
        let from = if early.is_zero() { due } else { Instant::now() };
        turn = (turn + 1) % requests.len().max(1);
        let request = requests.get(turn).context("no request")?;
        runtime.block_on(connection.call(request))?;
        times.push(from.elapsed().as_secs_f64() * 1e6);
        due += interval;
    }
    Ok(times)
}
