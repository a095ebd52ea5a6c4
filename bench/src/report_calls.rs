//! The part of the report that tells what separates the product from an empty filter, crossing by crossing.

use std::fmt::Write as _;

use anyhow::Result;
use omniflow_counting_host::Cost;

use crate::statistics::Spread;

/// `costs` are those of single crossings, in microseconds; `counted` is an allowed request without a body.
pub(crate) fn text(costs: &[(&'static str, Spread)], counted: &Cost, added: f64) -> Result<String> {
    let mut text = String::from("## Crossing by crossing\n\n");
    writeln!(
        text,
        "How often a request crosses the border between Envoy and the VM, as the [counting host](../bench/counting-host) has \
         it, and what one crossing costs here, measured in the same run with a filter that makes it many times over. What \
         hands bytes to the VM calls into it for room, which is in its figure. In the product each of them comes once, with \
         other work in between, and costs more than here, where it is repeated.\n"
    )?;
    writeln!(text, "| crossing | a request | µs each | µs |\n|---|---|---|---|")?;
    let mut sum = 0.0;
    for (name, cost) in costs {
        let times =
            counted.callbacks.get(name).or_else(|| counted.host_calls.get(name)).copied().unwrap_or(0);
        let product = times as f64 * cost.median;
        sum += product;
        writeln!(
            text,
            "| `{name}` | {times} | {:.2} ({:.2}–{:.2}) | {product:.2} |",
            cost.median, cost.low, cost.high
        )?;
    }
    if costs.iter().any(|(_, cost)| cost.low <= 0.0) {
        writeln!(
            text,
            "\nWhere the middle half reaches to zero or below, the crossing is lost in the noise of this run."
        )?;
    }
    writeln!(
        text,
        "\nTogether {sum:.1} of the {added:.1} µs. The rest is the work of the filter itself, the route that is chosen anew because the identity headers may change it, the guard, seven headers \
         more on their way, the record's part of a batch, and that nothing is as warm as in a measurement of one thing."
    )?;
    Ok(text)
}
