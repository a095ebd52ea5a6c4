//! The section of the report about the cost of crossings between Envoy and the VM.

use std::fmt::Write as _;

use anyhow::Result;
use omniflow_counting_host::Cost;

use crate::statistics::Spread;

/// The section. `costs` are those of single crossings, in microseconds; `counted` is an allowed request without a body.
pub(crate) fn text(costs: &[(&'static str, Spread)], counted: &Cost, added: f64) -> Result<String> {
    let mut text = introduction();
    writeln!(text, "| crossing | per request | µs each | µs |\n|---|---|---|---|")?;
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
            "\nIf the interquartile range includes zero, the cost of the crossing is below the noise of this run."
        )?;
    }
    writeln!(
        text,
        "\nTogether, crossings take {sum:.1} of the {added:.1} µs. The rest is the filter's own work, selecting the route again \
         because the identity headers may change it, the guard, forwarding seven more headers, the record's share of a batch, \
         and caches that are colder than in an isolated measurement."
    )?;
    Ok(text)
}

/// The section up to its table.
pub(crate) fn introduction() -> String {
    "## Cost of crossings

The table shows how often an allowed request crosses the boundary between Envoy and the VM, counted by
`bench/counting-host`. It also shows the cost of one crossing, measured in the same run with a filter that repeats the
crossing many times. The cost of a host call that returns bytes includes the callback that allocates memory for these
bytes. In the product, each crossing happens once, with other work in between, so it costs more than in this measurement.

"
    .to_owned()
}
