//! The report: `docs/BENCHMARKS.md`.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use crate::measure::{Outcome, Plan};
use crate::statistics::Spread;

/// The report of one run, with the figures that are asked for most in sentences.
pub(crate) fn text(plan: &Plan, outcomes: &[Outcome]) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "# Benchmarks\n")?;
    writeln!(
        text,
        "Made by `make bench` in one run. Processor time of Envoy (all threads, user and kernel, from the kernel's \
         schedstat) over requests; {} pairs of {} requests each, every subject right after bare Envoy, in an order that \
         changes with each round; 16 connections, HTTP/1.1, one worker, one answer that Envoy gives itself. Medians, and \
         in brackets the middle half. Requests have no arguments. The latencies are \
         medians of {} runs each, by turns, after the pairs, and the client's too: its timers tick in milliseconds.\n",
        plan.pairs, plan.requests, plan.half_load_runs
    )?;
    writeln!(
        text,
        "What many keys and many gateways cost is in [BENCHMARKS-scale.md](BENCHMARKS-scale.md).\n"
    )?;
    writeln!(text, "Machine: {}.\n", machine())?;
    writeln!(text, "![Added processor time of a request](benchmarks.svg)\n")?;
    writeln!(
        text,
        "| subject | µs a request | added µs | requests/s | at half load: median | 99 % | 99.9 % |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for outcome in outcomes {
        let added = outcome.added.map_or("0".to_owned(), |added| spread(added, 1));
        let [median, p99, p999] = outcome.latency;
        writeln!(
            text,
            "| {} | {} | {added} | {} | {median:.0} µs | {p99:.0} µs | {p999:.0} µs |",
            outcome.name,
            spread(outcome.cost, 1),
            spread(outcome.throughput, 0),
        )?;
    }
    writeln!(text)?;
    for outcome in outcomes {
        writeln!(text, "- **{}**: {}.", outcome.name, outcome.what)?;
    }
    writeln!(text)?;
    let added = |outcome: &Outcome| Some(outcome.added?.median);
    let product = outcomes.iter().find(|outcome| outcome.name == "Omniflow Keys").and_then(added);
    let product = product.context("the product is missing")?;
    let beside = outcomes.iter().map(|outcome| outcome.beside.median).fold(0.0, f64::max);
    for outcome in outcomes.iter().filter(|outcome| outcome.name != "Omniflow Keys") {
        if let Some(other) = added(outcome) {
            writeln!(text, "- Omniflow Keys adds {:.2} times what {} adds.", product / other, outcome.name)?;
        }
    }
    writeln!(text, "- Its control plane spends {beside:.1} µs on the record of a request, beside Envoy.")?;
    Ok(text)
}

fn spread(Spread { low, median, high }: Spread, digits: usize) -> String {
    format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
}

pub(crate) fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{processors} processors ({}), Linux {}, Envoy 1.40.0",
        field("/proc/cpuinfo", "model name"),
        kernel.trim()
    )
}
