//! A control plane with a million keys: time of a start, of changes and of lists.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::client::Connection;
use omniflow_harness::control_plane::ControlPlane;
use omniflow_harness::ports::Port;
use omniflow_harness::{Call, client};
use omniflow_policy::gateway::{Incarnation, POLL_PATH, PollRequest, chunk_path};
use omniflow_policy::snapshot::{self, Manifest};
use omniflow_tests::seed;
use serde_json::json;

use super::{MILLION, Section, process, row, seeded, spread};
use crate::cpu;
use crate::statistics::grouped;

const STARTS: usize = 5;
/// Interval of the readiness checks.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Concurrent clients.
const CLIENTS: u32 = 8;
/// Changes of each kind.
const CHANGES: u32 = 1_600;
/// Lists of each kind.
const LISTS: u32 = 40;

pub(super) const TITLE: &str = "A control plane with a million keys";

/// Measures this section.
pub(super) async fn measure(folder: &Path) -> Result<Section> {
    let port = Port::reserve()?;
    let mut control_plane = seeded(folder, &port, MILLION).await?;
    let mut rows = Vec::new();

    let (mut starts, mut spent) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        starts.push(start(&mut control_plane).await?);
        spent.push(cpu::time_of(control_plane.process().id())?.as_secs_f64() * 1e3);
    }
    rows.push(row(
        format!("start until `/readyz` returns 200, {STARTS} starts"),
        spread(&starts),
        "2,000 ms",
    ));
    rows.push(row("CPU time of a start, excluding threads that have ended", spread(&spent), ""));
    let id = control_plane.process().id();
    let (memory, peak) = (process::memory(id)?, process::peak_memory(id)?);
    rows.push(row(
        "memory of the control plane after a start; peak memory",
        format!("{}; {}", process::mebibytes(memory), process::mebibytes(peak)),
        "",
    ));

    let unmerged = Arc::new(control_plane);
    let times = changes(&unmerged, 0, create).await?;
    rows.push(row(
        format!("create, {CLIENTS} concurrent clients, right after all keys were inserted at once"),
        spread(&times),
        "p99 20 ms",
    ));
    let mut control_plane = Arc::into_inner(unmerged).context("the control plane is still in use")?;
    control_plane.stop()?;
    seed::merge_search_index(control_plane.folder()).await?;
    control_plane.restart().await?;

    let control_plane = Arc::new(control_plane);
    for (what, change) in [("create", create as Make), ("rotate", rotate), ("revoke", revoke)] {
        let times = changes(&control_plane, CHANGES, change).await?;
        rows.push(row(format!("{what}, {CLIENTS} concurrent clients"), spread(&times), "p99 20 ms"));
    }
    let taking = tokio::spawn(take_images(Arc::clone(&control_plane)));
    let mut times = Vec::new();
    while !taking.is_finished() {
        times.extend(changes(&control_plane, u32::try_from(times.len())? + 2 * CHANGES, create).await?);
    }
    let images = taking.await??;
    rows.push(row(
        format!(
            "create, {CLIENTS} concurrent clients, while {IMAGES} full images are fetched ({images:.1} s)"
        ),
        spread(&times),
        "writes continue",
    ));

    rows.extend(lists(&control_plane).await?);
    Ok(Section { title: TITLE, method: method(), rows })
}

/// What is measured, and how.
pub(super) fn method() -> String {
    format!(
        "The database has {} keys with one version each. The duration of a start is measured from the start of \
         the process, on the database of a control plane that was stopped. The benchmark makes {} changes of \
         each kind. The clients send one request at a time over persistent HTTP connections, and each change is timed \
         from the request to the end of the response. A change is on disk when the response is sent. The first \
         measurement of changes runs right after all keys were inserted. All others run after the control plane has \
         merged the search index of names in the background. Lists have 100 keys. The benchmark requests {LISTS} lists \
         of each kind, one after the other.",
        grouped(MILLION),
        grouped(CHANGES)
    )
}

/// Starts the control plane and returns the duration in milliseconds.
async fn start(control_plane: &mut ControlPlane) -> Result<f64> {
    control_plane.stop()?;
    let port = control_plane.port();
    let started = Instant::now();
    let looking = tokio::spawn(async move {
        loop {
            if let Ok(answer) = client::call(port, Call::get("/readyz")).await
                && answer.status == 200
            {
                return started.elapsed();
            }
            // A poll interval: `restart`, which runs at the same time, fails at its own deadline if there is no start.
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    });
    control_plane.restart().await?;
    Ok(looking.await?.as_secs_f64() * 1e3)
}

type Make = fn(u32) -> (Call, u16);

fn create(number: u32) -> (Call, u16) {
    let fields =
        json!({"name": format!("created-{number}"), "environment": "live", "scopes": ["contacts:read"]});
    (Call::post("/v1/keys", &fields), 201)
}

fn rotate(number: u32) -> (Call, u16) {
    (Call::post(&format!("/v1/keys/{}/rotate", seed::name(number * 397 % MILLION)), &json!({})), 201)
}

fn revoke(number: u32) -> (Call, u16) {
    (Call::post(&format!("/v1/keys/{}/revoke", seed::name(number * 397 % MILLION)), &json!({})), 200)
}

/// Makes changes from several concurrent clients and returns their durations in milliseconds.
async fn changes(control_plane: &Arc<ControlPlane>, first: u32, make: Make) -> Result<Vec<f64>> {
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let (port, token) = (control_plane.port(), control_plane.admin_token().to_owned());
        clients.push(tokio::spawn(async move {
            let mut connection = Connection::http1(port).await?;
            let mut times = Vec::new();
            for number in (client..CHANGES).step_by(CLIENTS as usize) {
                let (call, status) = make(first + number);
                let call = call.bearer(&token);
                let began = Instant::now();
                let answer = connection.call(call).await?;
                times.push(began.elapsed().as_secs_f64() * 1e3);
                ensure!(answer.status == status, "a change failed: {}", answer.text());
            }
            anyhow::Ok(times)
        }));
    }
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    Ok(times)
}

/// Full images, fetched one after the other.
const IMAGES: u64 = 4;

/// Fetches full images as gateways do. Returns the time in seconds.
async fn take_images(control_plane: Arc<ControlPlane>) -> Result<f64> {
    let token = control_plane.create_token("gateway", "gateway").await?;
    let began = Instant::now();
    for number in 0..IMAGES {
        let poll = PollRequest {
            gateway: "bench".to_owned(),
            incarnation: Incarnation(number),
            filter_version: "bench".to_owned(),
            snapshot_format: snapshot::FORMAT,
            installation: None,
            version: 0,
            wait_ms: 0,
            cut_after_ms: None,
            clock: omniflow_policy::time::UnixMillis(0),
            vms: Vec::new(),
        };
        let mut connection = Connection::http1(control_plane.port()).await?;
        let call = Call::post(POLL_PATH, &serde_json::to_value(&poll)?).bearer(&token);
        let manifest = Manifest::decode(&connection.call(call).await?.body).context("no image is offered")?;
        for chunk in 0..manifest.chunk_count() {
            let call = Call::get(&chunk_path(manifest.version, chunk)).bearer(&token);
            let answer = connection.call(call).await?;
            ensure!(answer.status == 200, "chunk {chunk}: {}", answer.text());
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Typical lists of keys.
async fn lists(control_plane: &ControlPlane) -> Result<Vec<super::Row>> {
    let deep = control_plane.get(&format!("/v1/keys/{}", seed::name(MILLION / 2))).await?;
    let deep = deep["id"].as_str().context("a key without its id")?.to_owned();
    let mut rows = Vec::new();
    for (what, path) in [
        ("first page", "/v1/keys?limit=100".to_owned()),
        ("a page in the middle", format!("/v1/keys?limit=100&cursor={deep}")),
        ("search for a whole name", format!("/v1/keys?limit=100&q={}", seed::name(123_456))),
        ("search for a substring of one name", "/v1/keys?limit=100&q=ce-0123456".to_owned()),
        ("search for a substring of all names", "/v1/keys?limit=100&q=SERVICE".to_owned()),
        ("search without a match", "/v1/keys?limit=100&q=nobody".to_owned()),
        ("search for two letters without a match", "/v1/keys?limit=100&q=qx".to_owned()),
        ("search for the hint of a key", format!("/v1/keys?limit=100&q={}", seed::secret(777_777).hint())),
    ] {
        let mut times = Vec::new();
        for _ in 0..LISTS {
            let began = Instant::now();
            control_plane.get(&path).await?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        rows.push(row(format!("list: {what}"), spread(&times), "50 ms"));
    }
    Ok(rows)
}
