//! A hundred keys, ten thousand, a million: what a request costs in Envoy, and what Envoy holds in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use omniflow_harness::Envoy;

use super::gateway::Installation;
use super::{MILLION, Row, Section, process, row};
use crate::cpu;
use crate::load::{Request, saturate_in_turn};
use crate::statistics::Spread;
use crate::subjects::{options, reserve};

const SIZES: [u32; 3] = [100, 10_000, MILLION];
const ROUNDS: usize = 11;
const REQUESTS: u64 = 10_000;
/// Bytes of a VM that do not depend on the number of keys, and bytes of a key, as they are asked for.
const FIXED: u64 = 16 * 1024 * 1024;
const OF_A_KEY: u64 = 100;
/// Enough different keys that each page of the largest image is needed.
const ALL_PAGES: u32 = 100_000;

/// One way of calling one installation.
struct Subject {
    what: String,
    port: u16,
    process: u32,
    requests: Arc<[Request]>,
    added: Vec<f64>,
}

/// All figures.
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
        saturate_in_turn(port, &installation.some(ALL_PAGES), u64::from(ALL_PAGES)).await?;
    }
    rows.extend(memory_in_use(&bare, &installations)?);
    Ok(Section {
        title: "A hundred keys, ten thousand, a million",
        method: format!(
            "The product in full, as in [BENCHMARKS.md](BENCHMARKS.md), one worker, over control planes with {} keys. Processor \
             time of Envoy over requests, {ROUNDS} rounds of {REQUESTS} requests each, all in each round, in an order that \
             changes; added is less that of bare Envoy in the same round. Medians, and in brackets the middle half. *Spread* \
             are requests of 4,000 keys in turn (or of all 100), which lie all over the image; *hot* is one key. Memory is what \
             Envoy's process has more than bare Envoy (VmRSS), by the VMs: one of the worker, one of the main thread; and the same \
             without the parts of Envoy's own file that V8 uses, which are once in a process (RssFile). That \
             counts what all VMs share (the image in shared data), code and counters in; each worker's VM has copies of the \
             pages that its requests needed.",
            SIZES.map(|keys| keys.to_string()).join(", ")
        ),
        rows,
    })
}

async fn costs(bare: &Envoy, installations: &[Installation]) -> Result<Vec<Row>> {
    let mut base = Subject::new("bare".to_owned(), bare, installations.first().context("none")?.one());
    let mut subjects = Vec::new();
    for installation in installations {
        let keys = installation.keys;
        subjects.push(Subject::new(
            format!("{keys} keys, spread"),
            &installation.envoy,
            installation.spread(),
        ));
        subjects.push(Subject::new(format!("{keys} keys, hot"), &installation.envoy, installation.one()));
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
    // Of the same kind of calls, in the same round.
    let reference: Vec<Vec<f64>> =
        subjects.iter().skip(2).take(2).map(|subject| subject.added.clone()).collect();
    let mut rows = Vec::new();
    for (number, subject) in subjects.iter().enumerate() {
        let reference = reference.get(number % 2).context("no reference")?;
        let ratios: Vec<f64> = subject.added.iter().zip(reference).map(|(one, other)| one / other).collect();
        let (added, ratio) =
            (Spread::of(&subject.added).context("none")?, Spread::of(&ratios).context("none")?);
        rows.push(row(
            format!("added processor time of a request: {}", subject.what),
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
    memory_rows("after requests that need every page", bare, installations)
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

/// What Envoy holds beyond bare Envoy, `files` of it being parts of files, beside what is asked for.
pub(super) fn memory_row(when: &str, installation: &Installation, added: u64, files: u64) -> Row {
    let vms = installation.vms() as u64;
    let bound = FIXED + OF_A_KEY * u64::from(installation.keys);
    row(
        format!("memory with {} keys, {when}: of the process, by its {vms} VMs", installation.keys),
        format!(
            "{}, {}; without files {}",
            process::mebibytes(added),
            process::mebibytes(added / vms),
            process::mebibytes(added.saturating_sub(files) / vms)
        ),
        &format!("{} a VM", process::mebibytes(bound)),
    )
}

// === impl Subject ===

impl Subject {
    fn new(what: String, envoy: &Envoy, requests: Arc<[Request]>) -> Self {
        let (port, process) = (envoy.port(), envoy.process().id());
        Self { what, port, process, requests, added: Vec::new() }
    }

    /// Processor time of a request, in microseconds.
    async fn measure(&mut self) -> Result<f64> {
        let before = cpu::time_of(self.process)?;
        saturate_in_turn(self.port, &self.requests, REQUESTS).await.with_context(|| self.what.clone())?;
        let spent: Duration = cpu::time_of(self.process)?.saturating_sub(before);
        let cost = spent.as_secs_f64() * 1e6 / REQUESTS as f64;
        Ok(cost)
    }
}
