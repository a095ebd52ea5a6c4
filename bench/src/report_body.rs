//! The part of the report about a large body.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::body::{BODY, Streamed};

/// Of one run, bare Envoy first.
pub(crate) fn text(streamed: &[Streamed]) -> Result<String> {
    let mut text = String::from("## A large body\n\n");
    writeln!(
        text,
        "A POST of {} MiB to an upstream that reads it, over HTTP/1.1, by turns through bare Envoy and through the product \
         with its argument hash (SHA-256 over all of it) and 64 KiB of it kept; one worker, whose processor time it is.\n",
        BODY >> 20
    )?;
    writeln!(
        text,
        "| subject | MiB/s | processor time, ms | memory above that before, MiB |\n|---|---|---|---|"
    )?;
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
        "\nThe throughput is {ratio:.2} of that of bare Envoy, and a mebibyte costs {per_mebibyte:.2} ms more.",
    )
    .context("no text")?;
    Ok(text)
}
