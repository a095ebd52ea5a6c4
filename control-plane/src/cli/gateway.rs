//! `omf gateway`.

use clap::Subcommand;
use omniflow_policy::time::UnixMillis;
use serde_json::Value;

use super::args::Page;
use super::client::Client;
use super::output::{Column, Output, field};
use crate::clock::Clock;
use crate::json::time::parse_time;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the gateways that were heard of in the last day.
    List(Page),
}

/// How long a gateway that does not call is taken for live. The control plane goes by its own `--gateway-lease`, of
/// which this is the default.
const LEASE_MS: u64 = 60_000;

const LIVE: &str = "live";

const COLUMNS: &[Column] = &[
    ("GATEWAY", |gateway| field(gateway, "id")),
    ("STATE", |gateway| field(gateway, "state")),
    ("CONNECTED", |gateway| if_live(gateway, "connected")),
    ("IN STEP", |gateway| if_live(gateway, "in_step")),
    ("VERSION", |gateway| field(gateway, "version")),
    ("WORKERS", |gateway| gateway.get("workers").and_then(Value::as_array).map_or(0, Vec::len).to_string()),
    ("FILTER", |gateway| field(gateway, "filter_version")),
    ("CLOCK SKEW", clock_skew),
    ("LAST SEEN", |gateway| field(gateway, "last_seen_at")),
];

pub(super) fn run(command: &Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::List(page) => {
            let mut gateways = client.list("/v1/gateways", &[page.limit(), page.cursor()])?;
            if !output.json {
                add_states(&mut gateways, Clock::system().now());
            }
            output.list(&gateways, "gateways", COLUMNS)
        }
    }
}

/// Adds to each gateway whether it is live, and puts those that are before the others.
fn add_states(gateways: &mut Value, now: UnixMillis) {
    let Some(items) = gateways.get_mut("items").and_then(Value::as_array_mut) else { return };
    for gateway in items.iter_mut() {
        let state = if is_live(gateway, now) { LIVE } else { "silent" };
        if let Some(gateway) = gateway.as_object_mut() {
            gateway.insert("state".to_owned(), state.into());
        }
    }
    items.sort_by_key(|gateway| field(gateway, "state") != LIVE);
}

/// Only what is live is connected or in step; for the moments between two polls the time decides.
pub(super) fn is_live(gateway: &Value, now: UnixMillis) -> bool {
    let is = |name: &str| gateway.get(name) == Some(&Value::Bool(true));
    let last_seen = parse_time(&field(gateway, "last_seen_at"));
    is("connected") || is("in_step") || last_seen.is_some_and(|seen| now.0.saturating_sub(seen.0) <= LEASE_MS)
}

fn if_live(gateway: &Value, name: &str) -> String {
    if field(gateway, "state") == LIVE { field(gateway, name) } else { "-".to_owned() }
}

/// How far the gateway's clock is ahead of the control plane's, in milliseconds.
fn clock_skew(gateway: &Value) -> String {
    let skew = gateway.get("clock_skew_ms").and_then(Value::as_i64);
    skew.map_or_else(|| "-".to_owned(), |milliseconds| format!("{milliseconds:+} ms"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::output::{items, table};
    use super::*;

    #[test]
    fn live_gateways_come_first_and_silent_ones_claim_nothing() {
        let gateway = |id: &str, connected: bool, in_step: bool, seen: &str| {
            json!({"id": id, "connected": connected, "in_step": in_step, "version": 7, "workers": [],
                   "filter_version": "0.1.0", "last_seen_at": format!("2027-01-15T{seen}.000Z")})
        };
        let mut list = json!({"items": [
            gateway("a", false, false, "07:58:59"),
            gateway("b", true, false, "07:00:00"),
            gateway("c", false, true, "07:58:00"),
            gateway("d", false, false, "07:59:00"),
        ]});
        add_states(&mut list, parse_time("2027-01-15T08:00:00Z").unwrap());
        let shown = table(items(&list), &COLUMNS[..4]);
        let rows: Vec<Vec<&str>> =
            shown.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [
                ["b", "live", "true", "false"],
                ["c", "live", "false", "true"],
                ["d", "live", "false", "false"],
                ["a", "silent", "-", "-"]
            ]
        );
    }
    #[test]
    fn a_clock_that_is_off_is_shown_with_its_sign() {
        for (skew, shown) in
            [(json!(250), "+250 ms"), (json!(-3), "-3 ms"), (json!(0), "+0 ms"), (json!(null), "-")]
        {
            assert_eq!(clock_skew(&json!({"clock_skew_ms": skew})), shown);
        }
        assert_eq!(clock_skew(&json!({})), "-", "unknown before the first poll");
    }
}
