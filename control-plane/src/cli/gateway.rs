//! `omf gateway`.

use clap::Subcommand;
use serde_json::Value;

use super::args::Page;
use super::client::Client;
use super::output::{Column, Output, field};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the gateways that were heard of in the last day.
    List(Page),
}

const COLUMNS: &[Column] = &[
    ("GATEWAY", |gateway| field(gateway, "id")),
    ("CONNECTED", |gateway| field(gateway, "connected")),
    ("IN STEP", |gateway| field(gateway, "in_step")),
    ("VERSION", |gateway| field(gateway, "version")),
    ("WORKERS", |gateway| gateway.get("workers").and_then(Value::as_array).map_or(0, Vec::len).to_string()),
    ("FILTER", |gateway| field(gateway, "filter_version")),
    ("LAST SEEN", |gateway| field(gateway, "last_seen_at")),
];

pub(super) fn run(command: &Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::List(page) => {
            output.list(&client.get("/v1/gateways", &[page.limit(), page.cursor()])?, COLUMNS)
        }
    }
}
