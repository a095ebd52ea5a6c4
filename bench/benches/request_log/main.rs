//! `make bench BENCH=request-log`: performance of writing, purging and reading the request log, with tens of millions of records.
//!
//! Everything runs in this process, without Envoy and without a network. Nothing is written to `docs/`.

mod browser;
mod ingest;
mod pages;
mod replay;
mod report;
mod retention;
mod statistics;

use anyhow::{Context as _, Result, bail, ensure};

use crate::report::Report;

/// The parts, in the order in which they run.
const PARTS: [&str; 6] = ["ingest", "retention", "statistics", "replay", "audit-pages", "key-pages"];

fn main() -> Result<()> {
    // Cargo adds --bench.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (only, size) = match words.as_slice() {
        [] => (None, None),
        [part] => (Some(part.as_str()), None),
        [part, size] => (Some(part.as_str()), Some(size.parse().context("SIZE is a whole number")?)),
        _ => bail!("usage: request_log [PART [SIZE]]"),
    };
    ensure!(
        only.is_none_or(|only| PARTS.contains(&only)),
        "the parts are {}; without one, all are measured",
        PARTS.join(", ")
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(only, size))
}

async fn run(only: Option<&str>, size: Option<u64>) -> Result<()> {
    let mut report = Report::default();
    for part in PARTS.into_iter().filter(|part| only.is_none_or(|only| only == *part)) {
        println!("\n{part}");
        match part {
            "ingest" => ingest::measure(&mut report, size.unwrap_or(60_000)).await?,
            "retention" => retention::measure(&mut report, size.unwrap_or(200_000)).await,
            "statistics" => statistics::measure(&mut report, size.unwrap_or(10_000_000)).await?,
            "replay" => replay::measure(&mut report, size.unwrap_or(100_000)).await?,
            "audit-pages" => pages::measure_audit(&mut report, size.unwrap_or(10_000_000)).await?,
            _ => pages::measure_keys(&mut report, size.unwrap_or(100_000)).await?,
        }
    }
    report.finish()
}
