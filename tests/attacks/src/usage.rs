//! Memory and disk space of an installation while it is attacked.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use omniflow_harness::Stack;
use tokio::time::{Instant, sleep};

/// Time between two samples.
const SAMPLE: Duration = Duration::from_millis(100);

/// Resident memory of both processes and the size of the data directory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Envoy.
    pub(crate) envoy: u64,
    /// The control plane.
    pub(crate) control_plane: u64,
    /// The files of the data directory.
    pub(crate) disk: u64,
}

/// The largest of each until this instant.
pub(crate) async fn peak(stack: &Stack, until: Instant) -> Result<Usage> {
    let mut peak = Usage::of(stack)?;
    while Instant::now() < until {
        sleep(SAMPLE).await;
        let now = Usage::of(stack)?;
        peak.envoy = peak.envoy.max(now.envoy);
        peak.control_plane = peak.control_plane.max(now.control_plane);
        peak.disk = peak.disk.max(now.disk);
    }
    Ok(peak)
}

// === impl Usage ===

impl Usage {
    /// The present values.
    pub(crate) fn of(stack: &Stack) -> Result<Self> {
        Ok(Self {
            envoy: resident(stack.envoy.process().id())?,
            control_plane: resident(stack.control_plane.process().id())?,
            disk: size(stack.control_plane.folder()),
        })
    }
}

/// `VmRSS` of proc(5).
fn resident(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
}

/// Files may disappear while they are counted.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
