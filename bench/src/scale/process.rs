//! What a process holds in memory, by the kernel's books.

use std::fs;

use anyhow::{Context as _, Result};

/// Bytes that a process has in memory now (`VmRSS` in proc(5)).
pub(super) fn memory(process: u32) -> Result<u64> {
    status(process, "VmRSS:")
}

/// Those of them that are parts of files (`RssFile`): of its executable above all, which the kernel holds once for all its
/// processes and drops when it needs room.
pub(super) fn memory_of_files(process: u32) -> Result<u64> {
    status(process, "RssFile:")
}

/// The most bytes that a process had in memory since [`forget_peak`] (`VmHWM`).
pub(super) fn peak_memory(process: u32) -> Result<u64> {
    status(process, "VmHWM:")
}

/// Lets the peak begin anew with what the process has now (`clear_refs` in proc(5)).
pub(super) fn forget_peak(process: u32) -> Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5").context("the peak cannot be reset")
}

fn status(process: u32, field: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// As people read it.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
