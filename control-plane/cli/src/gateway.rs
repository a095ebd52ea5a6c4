//! `omf gateway`.

use clap::Subcommand;
use omniflow_api_types::gateway::GatewayJson;
use omniflow_api_types::page::Page;

use super::args::PageArgs;
use super::client::{Client, segment};
use super::output::{Column, NONE, Output, cell, cell_or_none};

/// Commands of `omf gateway`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the gateways seen in the last 24 hours.
    List(PageArgs),
    /// Remove a gateway that has ended.
    ///
    /// The gateway no longer counts toward enforcement. If it still runs, it reappears with its next request.
    Remove {
        /// ID of the gateway, as shown by omf gateway list.
        #[arg(value_name = "GATEWAY")]
        id: String,
    },
}

const COLUMNS: &[Column<GatewayJson>] =
    &[
        ("GATEWAY", |gateway| cell(&gateway.id)),
        ("STATE", |gateway| {
            if gateway.state.is_live() { "live".to_owned() } else { gateway.state.describe().to_owned() }
        }),
        ("CONNECTED", |gateway| if_live(gateway, gateway.connected)),
        ("IN STEP", |gateway| if_live(gateway, gateway.in_step)),
        ("VERSION", |gateway| cell(gateway.version)),
        ("WORKERS", |gateway| cell(gateway.workers.len())),
        ("FILTER", |gateway| cell_or_none(gateway.filter_version.as_ref())),
        ("CLOCK SKEW", clock_skew),
        ("LAST SEEN", |gateway| cell(gateway.last_seen_at)),
    ];

pub(crate) fn run(command: &Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::List(page) => {
            let gateways = client.list("/v1/gateways", &[page.limit(), page.cursor()])?;
            output.list(&gateways.map(live_first), "gateways", COLUMNS)
        }
        Command::Remove { id } => {
            client.delete(&format!("/v1/gateways/{}", segment(id)))?;
            if !output.json {
                eprintln!("Gateway {id} is removed.");
            }
            Ok(())
        }
    }
}

/// Sorts the gateways of a page, live ones first.
fn live_first(mut page: Page<GatewayJson>) -> Page<GatewayJson> {
    page.items.sort_by_key(|gateway| !gateway.state.is_live());
    page
}

fn if_live(gateway: &GatewayJson, is: bool) -> String {
    if gateway.state.is_live() { is.to_string() } else { NONE.to_owned() }
}

/// How far the gateway's clock is ahead of the control plane's, in milliseconds.
fn clock_skew(gateway: &GatewayJson) -> String {
    cell_or_none(gateway.clock_skew_ms.map(|milliseconds| format!("{milliseconds:+} ms")))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::super::output::table;
    use super::*;

    /// A gateway that is connected and in step, with these fields replaced.
    pub(crate) fn gateway(fields: Value) -> GatewayJson {
        let mut gateway = json!({
            "id": "edge/1", "gateway": "edge", "incarnation": "000000000000000a", "filter_version": "0.1.0",
            "connected": true, "version": 7, "in_step": true, "state": "in_step", "workers": [], "clock_skew_ms": null,
            "token_expires_at": null,
            "first_seen_at": "2027-01-15T07:00:00.000Z", "last_seen_at": "2027-01-15T08:00:00.000Z",
        });
        gateway.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(gateway).unwrap()
    }

    #[test]
    fn live_gateways_come_first_and_silent_ones_claim_nothing() {
        let gateway = |id: &str, connected: bool, state: &str| {
            let in_step = state == "in_step";
            gateway(json!({"id": id, "connected": connected, "in_step": in_step, "state": state}))
        };
        let items = vec![
            gateway("a", false, "silent"),
            gateway("b", true, "behind"),
            gateway("c", false, "in_step"),
            gateway("d", false, "behind"),
            gateway("e", false, "token_expired"),
        ];
        let page = live_first(Page { items, next_cursor: None });
        let shown = table(&page.items, &COLUMNS[..4]);
        let rows: Vec<Vec<&str>> =
            shown.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [
                vec!["b", "live", "true", "false"],
                vec!["c", "live", "false", "true"],
                vec!["d", "live", "false", "false"],
                vec!["a", "silent", "-", "-"],
                vec!["e", "rejected:", "token", "expired", "-", "-"]
            ]
        );
    }

    #[test]
    fn clock_skew_is_shown_with_its_sign() {
        for (skew, shown) in
            [(json!(250), "+250 ms"), (json!(-3), "-3 ms"), (json!(0), "+0 ms"), (json!(null), "-")]
        {
            assert_eq!(clock_skew(&gateway(json!({"clock_skew_ms": skew}))), shown);
        }
    }
}
