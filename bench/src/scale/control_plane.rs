//! A control plane with a million keys: how soon it is there, and how long changes and lists take.

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

const STARTS: usize = 5;
/// Between two looks whether it is ready.
const LOOK: Duration = Duration::from_millis(2);
/// Clients at once.
const CLIENTS: u32 = 8;
/// Changes of each kind.
const CHANGES: u32 = 1_600;
/// Lists of each kind.
const LISTS: u32 = 40;

/// All figures.
pub(super) async fn measure(folder: &Path) -> Result<Section> {
    let port = Port::reserve()?;
    let mut control_plane = seeded(folder, &port, MILLION).await?;
    let mut rows = Vec::new();

    let (mut starts, mut spent) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        starts.push(start(&mut control_plane).await?);
        spent.push(cpu::time_of(control_plane.process().id())?.as_secs_f64() * 1e3);
    }
    rows.push(row(format!("start until `/readyz` says 200, {STARTS} times"), spread(&starts), "2,000 ms"));
    rows.push(row("processor time of that, of all threads that go on", spread(&spent), ""));
    let id = control_plane.process().id();
    let (memory, peak) = (process::memory(id)?, process::peak_memory(id)?);
    rows.push(row(
        "memory of the control plane after a start, and its peak",
        format!("{}, {}", process::mebibytes(memory), process::mebibytes(peak)),
        "",
    ));

    let unmerged = Arc::new(control_plane);
    let times = changes(&unmerged, 0, create).await?;
    rows.push(row(
        format!("create, {CLIENTS} clients at once, right after all keys were put in at once"),
        spread(&times),
        "20 ms at 99 %",
    ));
    let mut control_plane = Arc::into_inner(unmerged).context("somebody still uses the control plane")?;
    control_plane.stop()?;
    seed::merge_search_index(control_plane.folder()).await?;
    control_plane.restart().await?;

    let control_plane = Arc::new(control_plane);
    for (what, change) in [("create", create as Make), ("rotate", rotate), ("revoke", revoke)] {
        let times = changes(&control_plane, CHANGES, change).await?;
        rows.push(row(format!("{what}, {CLIENTS} clients at once"), spread(&times), "20 ms at 99 %"));
    }
    let taking = tokio::spawn(take_images(Arc::clone(&control_plane)));
    let mut times = Vec::new();
    while !taking.is_finished() {
        times.extend(changes(&control_plane, u32::try_from(times.len())? + 2 * CHANGES, create).await?);
    }
    let images = taking.await??;
    rows.push(row(
        format!("create, {CLIENTS} clients at once, while {IMAGES} full images are taken ({images:.1} s)"),
        spread(&times),
        "writes go on",
    ));

    rows.extend(lists(&control_plane).await?);
    Ok(Section {
        title: "A control plane with a million keys",
        method: format!(
            "A database with {MILLION} keys of one version each. A start is measured from the start of the process, over the \
             database of a control plane that was stopped. {CHANGES} changes of each kind, each client's one after the other, \
             over HTTP and kept connections, from the call to the end of the answer. A change is on the disk when it is \
             answered. All but the first of these are measured when the index of names is merged, as the control plane does beside \
             the changes. Lists are of 100 keys, {LISTS} of each kind, one after the other."
        ),
        rows,
    })
}

/// One start; how long it took, in milliseconds.
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
            // Polls: `restart`, awaited beside this, fails at its own deadline where there is no start.
            tokio::time::sleep(LOOK).await;
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

/// Makes changes from several clients at once; how long each took, in milliseconds.
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
                ensure!(answer.status == status, "a change is refused: {}", answer.text());
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

/// Full images that are taken one after the other.
const IMAGES: u64 = 4;

/// Takes full images as gateways do; in how many seconds.
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

/// Lists that people ask for.
async fn lists(control_plane: &ControlPlane) -> Result<Vec<super::Row>> {
    let deep = control_plane.get(&format!("/v1/keys/{}", seed::name(MILLION / 2))).await?;
    let deep = deep["id"].as_str().context("a key without its id")?.to_owned();
    let mut rows = Vec::new();
    for (what, path) in [
        ("first page", "/v1/keys?limit=100".to_owned()),
        ("a page in the middle", format!("/v1/keys?limit=100&cursor={deep}")),
        ("search for a whole name", format!("/v1/keys?limit=100&q={}", seed::name(123_456))),
        ("search for a part that one key has", "/v1/keys?limit=100&q=ce-0123456".to_owned()),
        ("search for a part that all keys have", "/v1/keys?limit=100&q=SERVICE".to_owned()),
        ("search for what no key has", "/v1/keys?limit=100&q=nobody".to_owned()),
        ("search for two letters that no key has", "/v1/keys?limit=100&q=qx".to_owned()),
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
