//! The section of the report about large bodies.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::body::{BODY, Streamed};

/// The section of one run. Bare Envoy comes first.
pub(crate) fn text(streamed: &[Streamed]) -> Result<String> {
    let mut text = introduction();
    writeln!(text, "| subject | MiB/s | CPU time, ms | memory growth, MiB |\n|---|---|---|---|")?;
    for one in streamed {
        writeln!(
            text,
            "| {} | {:.0} ({:.0}–{:.0}) | {:.0} ({:.0}–{:.0}) | {:.1} |",
            one.name,
            one.throughput.median,
            one.throughput.low,
            one.throughput.high,
            one.cost.median,
            one.cost.low,
            one.cost.high,
            one.growth as f64 / 1024.0
        )?;
    }
    let [bare, product] = streamed else { anyhow::bail!("two subjects were to be measured") };
    let ratio = product.throughput.median / bare.throughput.median;
    let per_mebibyte = (product.cost.median - bare.cost.median) / (BODY >> 20) as f64;
    writeln!(
        text,
        "\nThe throughput is {ratio:.2} times that of bare Envoy, and each MiB costs {per_mebibyte:.2} ms more.",
    )
    .context("no text")?;
    Ok(text)
}

/// The section up to its table.
pub(crate) fn introduction() -> String {
    format!(
        "## Large bodies

The client sends a POST of {} MiB over HTTP/1.1 to an upstream that reads it, alternately through bare Envoy and through
the product. The product computes the argument hash (SHA-256 over the whole body) and stores 64 KiB. Envoy has one worker,
whose CPU time is shown.

",
        BODY >> 20
    )
}
