//! What a process holds in memory, by the kernel's books.

use std::fs;

use anyhow::{Context as _, Result};

/// Bytes that a process has in memory now for itself (`RssAnon` in proc(5)): not those parts of its executable file that it
/// has used, which the kernel holds once for all its processes and drops when it needs room.
pub(super) fn memory(process: u32) -> Result<u64> {
    status(process, "RssAnon:")
}

/// The most such bytes since [`forget_peak`]. The kernel keeps the peak of all (`VmHWM`); of its files a process has only
/// ever more.
pub(super) fn peak_memory(process: u32) -> Result<u64> {
    Ok(status(process, "VmHWM:")?.saturating_sub(status(process, "RssFile:")?))
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
