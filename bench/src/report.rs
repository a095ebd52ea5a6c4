//! The report: `docs/operations/benchmarks.md`.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use crate::measure::{Outcome, Plan};
use crate::statistics::{Spread, grouped};

/// The report of one run.
pub(crate) fn text(plan: &Plan, outcomes: &[Outcome]) -> Result<String> {
    let mut text = introduction(plan);
    writeln!(text, "Machine: {}.\n", machine())?;
    writeln!(text, "![CPU time added per request](../benchmarks.svg)\n")?;
    writeln!(text, "| subject | µs per request | added µs | requests/s | at half load: p50 | p99 | p99.9 |")?;
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
            writeln!(
                text,
                "- Omniflow Keys adds {:.2} times as much CPU time as {}.",
                product / other,
                outcome.name
            )?;
        }
    }
    writeln!(
        text,
        "- In addition, the control plane uses {beside:.1} µs of CPU time for the audit record of a request."
    )?;
    Ok(text)
}

/// The page up to the name of the machine.
fn introduction(plan: &Plan) -> String {
    format!(
        "# Benchmarks

This page compares the cost of a request through Omniflow Keys with that of bare Envoy, an empty Wasm filter, Envoy's own
filters and ext_authz. All figures are from one run of `make bench`, which writes this page. [Benchmarks at
scale](benchmarks-scale.md) shows the cost of many keys and many gateways.

- The cost of a request is the CPU time of all threads of Envoy, in user mode and in the kernel, from the kernel's schedstat.
- Each subject is measured in {} pairs of runs with {} requests each: bare Envoy first, then the subject. The order of the
  subjects changes with each round.
- The load is 16 connections over HTTP/1.1 to one worker. Envoy generates the response itself. Requests have no arguments.
- Figures are medians, with the interquartile range in parentheses.
- Latencies are medians of {} runs each, measured after the pairs, one subject after the other. They include the client, whose
  timers have a resolution of 1 ms.

",
        plan.pairs,
        grouped(plan.requests),
        plan.half_load_runs
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report_body, report_calls};

    /// The published page was written by an earlier run. Its text must be the text that the next run writes.
    #[test]
    fn published_page_has_the_text_of_this_program() {
        let page = fs::read_to_string(omniflow_harness::paths::root().join("docs/operations/benchmarks.md"))
            .unwrap();
        assert!(page.starts_with(&introduction(&Plan::full())), "the introduction differs");
        for section in [report_calls::introduction(), report_body::introduction()] {
            assert!(page.contains(&section), "missing: {section}");
        }
    }
}
