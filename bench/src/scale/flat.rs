//! Cost of a request and memory of Envoy with a hundred, ten thousand and a million keys.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use omniflow_harness::Envoy;

use super::gateway::Installation;
use super::{MILLION, Row, Section, process, row};
use crate::cpu;
use crate::load::{Request, saturate_in_turn};
use crate::statistics::{Spread, grouped};
use crate::subjects::{options, reserve};

const SIZES: [u32; 3] = [100, 10_000, MILLION];
const ROUNDS: usize = 11;
const REQUESTS: u64 = 10_000;
/// The targets: bytes of a VM that do not depend on the number of keys, and bytes per key.
const FIXED: u64 = 16 * 1024 * 1024;
const OF_A_KEY: u64 = 100;
/// Enough different keys to need each segment of the largest image.
const ALL_SEGMENTS: u32 = 100_000;

/// A set of requests to one installation.
struct Subject {
    what: String,
    port: u16,
    process: u32,
    requests: Arc<[Request]>,
    added: Vec<f64>,
}

pub(super) const TITLE: &str = "A request with a hundred, ten thousand and a million keys";

/// Measures this section.
pub(super) async fn measure(folder: &Path) -> Result<Section> {
    let ports = reserve(2)?;
    let bare_folder = folder.join("bare");
    std::fs::create_dir_all(&bare_folder)?;
    let bare = Envoy::start(options(&bare_folder, &ports)?).await?;
    let mut installations = Vec::new();
    for keys in SIZES {
        installations.push(Installation::start(&folder.join(keys.to_string()), keys, 1).await?);
    }
    let mut rows = memory_at_rest(&bare, &installations)?;
    rows.extend(costs(&bare, &installations).await?);
    for installation in &installations {
        let port = installation.envoy.port();
        saturate_in_turn(port, &installation.some(ALL_SEGMENTS), u64::from(ALL_SEGMENTS)).await?;
    }
    rows.extend(memory_in_use(&bare, &installations)?);
    Ok(Section { title: TITLE, method: method(), rows })
}

/// What is measured, and how.
pub(super) fn method() -> String {
    let [few, more, most] = SIZES.map(grouped);
    format!(
        "The subjects are the complete product as in [Benchmarks](benchmarks.md), with one worker, on control planes \
         with {few}, {more} and {most} keys. The cost of a request is the CPU time of Envoy, over {ROUNDS} rounds of {} \
         requests each. Each round measures all subjects, in an order that changes. *Added* is the difference from bare Envoy in \
         the same round. Figures are medians, with the interquartile range in parentheses. *Spread* means requests with 4,000 \
         keys in turn (or with all 100) from all parts of the image. *Hot* means requests with one key. Memory is the \
         difference in resident memory (VmRSS) between Envoy's process and bare Envoy, in total and per VM. There is \
         one VM for the worker and one for the main thread. The last figure excludes the parts of Envoy's own file that \
         V8 uses, which are mapped once per process (RssFile). Memory includes the data that all VMs share (the image \
         in shared data), code and counters. Each worker's VM has copies of the segments that its requests needed.",
        grouped(REQUESTS)
    )
}

async fn costs(bare: &Envoy, installations: &[Installation]) -> Result<Vec<Row>> {
    let mut base = Subject::new("bare".to_owned(), bare, installations.first().context("none")?.one());
    let mut subjects = Vec::new();
    for installation in installations {
        let keys = installation.keys;
        subjects.push(Subject::new(
            format!("{} keys, spread", grouped(keys)),
            &installation.envoy,
            installation.spread(),
        ));
        subjects.push(Subject::new(
            format!("{} keys, hot", grouped(keys)),
            &installation.envoy,
            installation.one(),
        ));
    }
    for subject in subjects.iter_mut().chain([&mut base]) {
        saturate_in_turn(subject.port, &subject.requests, REQUESTS).await?;
    }
    for round in 0..ROUNDS {
        let of_base = base.measure().await?;
        let count = subjects.len();
        for turn in 0..count {
            let subject = subjects.get_mut((turn + round) % count).context("no subject")?;
            let cost = subject.measure().await?;
            subject.added.push(cost - of_base);
        }
    }
    // Compared with the same kind of requests in the same round.
    let reference: Vec<Vec<f64>> =
        subjects.iter().skip(2).take(2).map(|subject| subject.added.clone()).collect();
    let mut rows = Vec::new();
    for (number, subject) in subjects.iter().enumerate() {
        let reference = reference.get(number % 2).context("no reference")?;
        let ratios: Vec<f64> = subject.added.iter().zip(reference).map(|(one, other)| one / other).collect();
        let (added, ratio) =
            (Spread::of(&subject.added).context("none")?, Spread::of(&ratios).context("none")?);
        rows.push(row(
            format!("added CPU time per request: {}", subject.what),
            format!(
                "{:.1} µs ({:.1}–{:.1}); {:.2} × that with 10,000 keys ({:.2}–{:.2})",
                added.median, added.low, added.high, ratio.median, ratio.low, ratio.high
            ),
            if number / 2 == 1 { "" } else { "0.90 to 1.10" },
        ));
    }
    Ok(rows)
}

fn memory_at_rest(bare: &Envoy, installations: &[Installation]) -> Result<Vec<Row>> {
    memory_rows("before any request", bare, installations)
}

fn memory_in_use(bare: &Envoy, installations: &[Installation]) -> Result<Vec<Row>> {
    memory_rows("after requests that need every segment", bare, installations)
}

fn memory_rows(when: &str, bare: &Envoy, installations: &[Installation]) -> Result<Vec<Row>> {
    let bare = bare.process().id();
    let (of_bare, files_of_bare) = (process::memory(bare)?, process::memory_of_files(bare)?);
    installations
        .iter()
        .map(|installation| {
            let id = installation.envoy.process().id();
            let added = process::memory(id)?.saturating_sub(of_bare);
            let files = process::memory_of_files(id)?.saturating_sub(files_of_bare);
            Ok(memory_row(when, installation, added, files))
        })
        .collect()
}

/// The memory that Envoy uses in addition to bare Envoy, `files` bytes of which are mapped files, and the target.
pub(super) fn memory_row(when: &str, installation: &Installation, added: u64, files: u64) -> Row {
    let vms = installation.vms() as u64;
    let bound = FIXED + OF_A_KEY * u64::from(installation.keys);
    row(
        format!("memory with {} keys, {when}: process; per VM ({vms} VMs)", grouped(installation.keys)),
        format!(
            "{}; {}; {} without files",
            process::mebibytes(added),
            process::mebibytes(added / vms),
            process::mebibytes(added.saturating_sub(files) / vms)
        ),
        &format!("{} per VM", process::mebibytes(bound)),
    )
}

// === impl Subject ===

impl Subject {
    fn new(what: String, envoy: &Envoy, requests: Arc<[Request]>) -> Self {
        let (port, process) = (envoy.port(), envoy.process().id());
        Self { what, port, process, requests, added: Vec::new() }
    }

    /// CPU time of a request, in microseconds.
    async fn measure(&mut self) -> Result<f64> {
        let before = cpu::time_of(self.process)?;
        saturate_in_turn(self.port, &self.requests, REQUESTS).await.with_context(|| self.what.clone())?;
        let spent: Duration = cpu::time_of(self.process)?.saturating_sub(before);
        let cost = spent.as_secs_f64() * 1e6 / REQUESTS as f64;
        Ok(cost)
    }
}
