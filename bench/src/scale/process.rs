//! Memory of a process, from the kernel's statistics.

use std::fs;

use anyhow::{Context as _, Result};

/// The resident memory of a process in bytes (`VmRSS` in proc(5)).
pub(super) fn memory(process: u32) -> Result<u64> {
    status(process, "VmRSS:")
}

/// The part of it that is mapped files (`RssFile`): mostly its executable, which the kernel loads once for all its processes
/// and evicts when it needs memory.
pub(super) fn memory_of_files(process: u32) -> Result<u64> {
    status(process, "RssFile:")
}

/// The peak resident memory in bytes since [`forget_peak`] (`VmHWM`).
pub(super) fn peak_memory(process: u32) -> Result<u64> {
    status(process, "VmHWM:")
}

/// Resets the peak to the current memory (`clear_refs` in proc(5)).
pub(super) fn forget_peak(process: u32) -> Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5").context("the peak cannot be reset")
}

fn status(process: u32, field: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// The bytes as text, in MiB.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
