//! `make bench BENCH=scale`: the cost of a million keys and of a thousand gateways.

mod changes;
mod control_plane;
mod flat;
mod fleet;
mod gateway;
mod gateways;
mod process;
mod report;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use omniflow_harness::control_plane::{ControlPlane, ControlPlaneOptions};
use omniflow_harness::paths;
use omniflow_harness::ports::Port;
use omniflow_tests::seed;

use crate::statistics::quantile;

/// The number of keys in a large installation.
pub(crate) const MILLION: u32 = 1_000_000;

/// The results of one part.
pub(crate) struct Section {
    /// Its heading.
    pub(crate) title: &'static str,
    /// What was measured, and how.
    pub(crate) method: String,
    /// The figures.
    pub(crate) rows: Vec<Row>,
}

/// One figure.
pub(crate) struct Row {
    /// What it measures.
    pub(crate) what: String,
    /// The value.
    pub(crate) measured: String,
    /// The target, or empty.
    pub(crate) bound: String,
}

/// Measures all parts, or the part with this name, and writes each to the report.
pub(crate) async fn run(only: Option<&str>) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("omniflow-scale-").tempdir()?;
    let part = |name: &str| -> Option<PathBuf> {
        only.is_none_or(|only| only == name).then(|| folder.path().join(name))
    };
    let mut measured = false;
    if let Some(folder) = part("flat") {
        publish(&load()?, &flat::measure(&folder).await?)?;
        measured = true;
    }
    if let Some(folder) = part("changes") {
        publish(&load()?, &changes::measure(&folder).await?)?;
        measured = true;
    }
    if let Some(folder) = part("fleet") {
        publish(&load()?, &fleet::measure(&folder).await?)?;
        measured = true;
    }
    if let Some(folder) = part("control-plane") {
        publish(&load()?, &control_plane::measure(&folder).await?)?;
        measured = true;
    }
    ensure!(
        measured,
        "unknown part: scale has the parts flat, changes, fleet and control-plane, and measures all of them by default"
    );
    Ok(())
}

/// The load average of the last minute.
fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn publish(load: &str, section: &Section) -> Result<()> {
    let section = report::section(load, section)?;
    println!("{section}");
    let path = paths::root().join("docs/operations/benchmarks-scale.md");
    let report = fs::read_to_string(&path).unwrap_or_default();
    Ok(fs::write(path, report::with_section(&report, &section))?)
}

/// A control plane with the first `keys` keys of [`seed`], in a new folder.
async fn seeded(folder: &Path, port: &Port, keys: u32) -> Result<ControlPlane> {
    fs::create_dir_all(folder)?;
    let mut control_plane = ControlPlane::start(ControlPlaneOptions::new(folder, port.number())).await?;
    let ended = control_plane.stop()?;
    ensure!(ended.success(), "the control plane ended with {ended}");
    seed::fill(folder, 0..keys).await?;
    control_plane.restart().await?;
    Ok(control_plane)
}

/// The p50, p99 and maximum of values in milliseconds.
fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part| quantile(&sorted, part).unwrap_or(f64::NAN);
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
}

fn row(what: impl Into<String>, measured: impl Into<String>, bound: &str) -> Row {
    Row { what: what.into(), measured: measured.into(), bound: bound.to_owned() }
}
