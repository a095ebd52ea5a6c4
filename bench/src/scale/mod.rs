//! `make bench BENCH=scale`: whether a million keys cost what a hundred do, and a thousand gateways what one does.

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

/// The keys of an installation that is large.
pub(crate) const MILLION: u32 = 1_000_000;

/// What one part has found out.
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
    /// What it is of.
    pub(crate) what: String,
    /// What it is.
    pub(crate) measured: String,
    /// What it should be; empty where nothing is asked for.
    pub(crate) bound: String,
}

/// Measures all parts, or the one with this name, and writes each into the report.
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
        "scale has the parts flat, changes, fleet and control-plane; without one it measures all"
    );
    Ok(())
}

/// How many threads ran or wanted to in the last minute.
fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn publish(load: &str, section: &Section) -> Result<()> {
    let section = report::section(load, section)?;
    println!("{section}");
    let path = paths::root().join("docs/BENCHMARKS-scale.md");
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

/// Half of these are lower, 99 and 100 of 100, in this order.
fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part| quantile(&sorted, part).unwrap_or(f64::NAN);
    format!("median {:.1} ms, 99 % {:.1} ms, longest {:.1} ms", at(0.5), at(0.99), at(1.0))
}

fn row(what: impl Into<String>, measured: impl Into<String>, bound: &str) -> Row {
    Row { what: what.into(), measured: measured.into(), bound: bound.to_owned() }
}
