//! A thousand gateways: propagation of a revocation, and load of the control plane.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::Call;
use omniflow_harness::client::Connection;
use omniflow_harness::ports::Port;
use omniflow_tests::seed;
use serde_json::json;
use tokio::time::timeout;

use super::gateways::{Fleet, Gateway};
use super::{Row, Section, process, row, seeded, spread};
use crate::cpu;
use crate::statistics::grouped;

const GATEWAYS: u64 = 1_000;
const KEYS: u32 = 100_000;
const REVOCATIONS: u32 = 25;
/// Duration of the measurement without changes: longer than a long poll.
const IDLE: Duration = Duration::from_secs(25);
/// Deadline for all gateways.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) const TITLE: &str = "A thousand gateways";

/// Measures this section.
pub(super) async fn measure(folder: &Path) -> Result<Section> {
    let port = Port::reserve()?;
    let control_plane = seeded(folder, &port, KEYS).await?;
    let id = control_plane.process().id();
    let mut gateways = Vec::new();
    for number in 0..GATEWAYS {
        gateways.push(Gateway::new(&control_plane, number).await?);
    }
    let mut rows = vec![row(
        "memory of the control plane before the gateways connect",
        process::mebibytes(process::memory(id)?),
        "",
    )];
    rows.extend(whole_images(id, &gateways).await?);

    let mut poll = gateways.first().context("no gateway")?.anew().await?;
    let version = poll.poll(0).await?.context("no image")?;
    let installation = poll.installation().context("the gateway has no snapshot")?;
    for gateway in &mut gateways {
        *gateway = gateway.anew().await?;
        gateway.hold(installation, version);
    }
    let mut fleet = Fleet::start(gateways);
    let before = cpu::time_of(id)?;
    // Not a wait for a condition: the duration of the measurement.
    tokio::time::sleep(IDLE).await;
    fleet.check().await?;
    let idle = cpu::time_of(id)?.saturating_sub(before);
    rows.push(row(
        format!("control plane with {} gateways and no changes: memory; CPU time", grouped(GATEWAYS)),
        format!(
            "{}; {:.2} % of one processor",
            process::mebibytes(process::memory(id)?),
            idle.as_secs_f64() / IDLE.as_secs_f64() * 100.0
        ),
        "",
    ));
    rows.extend(revocations(&control_plane, &mut fleet).await?);
    Ok(Section { title: TITLE, method: method(), rows })
}

/// What is measured, and how.
pub(super) fn method() -> String {
    format!(
        "The control plane has {} keys. The gateways are connections of one process on the same machine, each with \
         its own token. They poll as the filter does, with the status of three VMs. Gateways that fetch a full image \
         verify every segment, which also takes CPU time on this machine. The benchmark makes {REVOCATIONS} \
         revocations, one after the other. A gateway has a change when it has read the response to its poll.",
        grouped(KEYS)
    )
}

/// All gateways start at once without a snapshot.
async fn whole_images(id: u32, gateways: &[Gateway]) -> Result<Vec<Row>> {
    process::forget_peak(id)?;
    let mut anew = Vec::new();
    for gateway in gateways {
        anew.push(gateway.anew().await?);
    }
    let (began, before) = (Instant::now(), cpu::time_of(id)?);
    let tasks: Vec<_> = anew
        .into_iter()
        .map(|mut gateway| {
            tokio::spawn(async move {
                gateway.poll(0).await?.context("no image is offered")?;
                anyhow::Ok(began.elapsed())
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.push(timeout(LIMIT, task).await???.as_secs_f64());
    }
    let spent = cpu::time_of(id)?.saturating_sub(before);
    times.sort_by(f64::total_cmp);
    let last = times.last().copied().unwrap_or_default();
    Ok(vec![row(
        format!("{} gateways start at once and fetch the image of {} keys", grouped(GATEWAYS), grouped(KEYS)),
        format!(
            "last gateway after {last:.1} s; CPU time {:.1} s; peak memory {}",
            spent.as_secs_f64(),
            process::mebibytes(process::peak_memory(id)?)
        ),
        "bounded",
    )])
}

async fn revocations(control_plane: &omniflow_harness::ControlPlane, fleet: &mut Fleet) -> Result<Vec<Row>> {
    let id = control_plane.process().id();
    let mut connection = Connection::http1(control_plane.port()).await?;
    process::forget_peak(id)?;
    let (mut from_call, mut from_answer, mut acknowledged) = (Vec::new(), Vec::new(), Vec::new());
    let mut spent = Duration::ZERO;
    for number in 0..REVOCATIONS * 2 {
        let wait = if number % 2 == 0 { "" } else { "?wait=10s" };
        let path = format!("/v1/keys/{}/revoke{wait}", seed::name(number * 7));
        let call = Call::post(&path, &json!({})).bearer(control_plane.admin_token());
        let before = cpu::time_of(id)?;
        let began = Instant::now();
        let answer = connection.call(call).await?;
        let answered = Instant::now();
        ensure!(answer.status == 200, "{}", answer.text());
        let mut last = began;
        for _ in 0..GATEWAYS {
            let reached = timeout(LIMIT, fleet.reached.recv()).await;
            let Ok(Some(reached)) = reached else {
                fleet.check().await?;
                anyhow::bail!("a gateway did not receive the revocation");
            };
            ensure!(reached.version > 0);
            last = last.max(reached.at);
        }
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        if wait.is_empty() {
            from_call.push(millis(last - began));
            from_answer.push(millis(last.saturating_duration_since(answered)));
            // Not a wait for a condition: the cost of the polls in this time is part of the measurement.
            tokio::time::sleep(Duration::from_millis(100)).await;
            spent += cpu::time_of(id)?.saturating_sub(before);
        } else {
            ensure!(answer.json()?["enforcement"]["complete"] == true, "{}", answer.text());
            acknowledged.push(millis(answered - began));
        }
    }
    Ok(vec![
        row("revocation: from the request until the last gateway has it", spread(&from_call), "500 ms"),
        row("revocation: from the response until the last gateway has it", spread(&from_answer), "500 ms"),
        row(
            format!("revocation with `?wait=`: until all {} gateways have confirmed it", grouped(GATEWAYS)),
            spread(&acknowledged),
            "",
        ),
        row(
            "control plane: CPU time per revocation, including the polls that follow; peak memory",
            format!(
                "{:.0} ms; {}",
                spent.as_secs_f64() * 1e3 / f64::from(REVOCATIONS),
                process::mebibytes(process::peak_memory(id)?)
            ),
            "",
        ),
    ])
}
