//! `omf gateway`.

use clap::Subcommand;
use omniflow_api_types::gateway::GatewayJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::values::UnixMillis;

use super::args::PageArgs;
use super::client::Client;
use super::clock;
use super::output::{Column, NONE, Output, cell, cell_or_none};

/// Commands of `omf gateway`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the gateways that were heard of in the last day.
    List(PageArgs),
}

/// How long a silent gateway counts as live, in milliseconds: the default of the control plane's `--gateway-lease`.
const LEASE_MS: u64 = 60_000;

/// A gateway, and whether it counts as live.
struct Row {
    gateway: GatewayJson,
    live: bool,
}

const COLUMNS: &[Column<Row>] = &[
    ("GATEWAY", |row| cell(&row.gateway.id)),
    ("STATE", |row| if row.live { "live".to_owned() } else { "silent".to_owned() }),
    ("CONNECTED", |row| if_live(row, row.gateway.connected)),
    ("IN STEP", |row| if_live(row, row.gateway.in_step)),
    ("VERSION", |row| cell(row.gateway.version)),
    ("WORKERS", |row| cell(row.gateway.workers.len())),
    ("FILTER", |row| cell_or_none(row.gateway.filter_version.as_ref())),
    ("CLOCK SKEW", |row| clock_skew(&row.gateway)),
    ("LAST SEEN", |row| cell(row.gateway.last_seen_at)),
];

pub(crate) fn run(command: &Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::List(page) => {
            let gateways = client.list("/v1/gateways", &[page.limit(), page.cursor()])?;
            output.list(&gateways.map(|page| rows(page, clock::now())), "gateways", COLUMNS)
        }
    }
}

/// The gateways of a page, live ones first.
fn rows(page: Page<GatewayJson>, now: UnixMillis) -> Page<Row> {
    let mut rows = page.map(|gateway| Row { live: is_live(&gateway, now), gateway });
    rows.items.sort_by_key(|row| !row.live);
    rows
}

/// Only what is live is connected or in step; for the moments between two polls the time decides.
pub(crate) fn is_live(gateway: &GatewayJson, now: UnixMillis) -> bool {
    let silent_for = now.0.saturating_sub(gateway.last_seen_at.0.0);
    gateway.connected || gateway.in_step || silent_for <= LEASE_MS
}

fn if_live(row: &Row, is: bool) -> String {
    if row.live { is.to_string() } else { NONE.to_owned() }
}

/// How far the gateway's clock is ahead of the control plane's, in milliseconds.
fn clock_skew(gateway: &GatewayJson) -> String {
    cell_or_none(gateway.clock_skew_ms.map(|milliseconds| format!("{milliseconds:+} ms")))
}

#[cfg(test)]
pub(crate) mod tests {
    use omniflow_api_types::values::parse_time;
    use serde_json::{Value, json};

    use super::super::output::table;
    use super::*;

    /// A gateway that is connected and in step, with these fields in place of its own.
    pub(crate) fn gateway(fields: Value) -> GatewayJson {
        let mut gateway = json!({
            "id": "edge/1", "gateway": "edge", "incarnation": "000000000000000a", "filter_version": "0.1.0",
            "connected": true, "version": 7, "in_step": true, "workers": [], "clock_skew_ms": null,
            "first_seen_at": "2027-01-15T07:00:00.000Z", "last_seen_at": "2027-01-15T08:00:00.000Z",
        });
        gateway.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(gateway).unwrap()
    }

    #[test]
    fn live_gateways_come_first_and_silent_ones_claim_nothing() {
        let gateway = |id: &str, connected: bool, in_step: bool, seen: &str| {
            gateway(json!({"id": id, "connected": connected, "in_step": in_step,
                           "last_seen_at": format!("2027-01-15T{seen}.000Z")}))
        };
        let items = vec![
            gateway("a", false, false, "07:58:59"),
            gateway("b", true, false, "07:00:00"),
            gateway("c", false, true, "07:58:00"),
            gateway("d", false, false, "07:59:00"),
        ];
        let page = Page { items, next_cursor: None };
        let rows = rows(page, parse_time("2027-01-15T08:00:00Z").unwrap());
        let shown = table(&rows.items, &COLUMNS[..4]);
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
            assert_eq!(clock_skew(&gateway(json!({"clock_skew_ms": skew}))), shown);
        }
    }
}
