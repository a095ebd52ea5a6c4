//! `omf policy`.

use clap::Subcommand;
use serde_json::Value;

use super::client::Client;
use super::output::{Column, Output, field, table};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the routes and scopes in force.
    Show,
}

const ROUTE_COLUMNS: &[Column] = &[
    ("METHODS", |route| field(route, "methods")),
    ("PATH", |route| field(route, "path")),
    ("SCOPE", |route| field(route, "scope")),
];
const SCOPE_COLUMNS: &[Column] =
    &[("SCOPE", |scope| field(scope, "name")), ("ALLOWS", |scope| field(scope, "description"))];

pub(super) fn run(command: &Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Show => output.print(&client.get("/v1/policy", &[])?, |policy| {
            let list = |pointer: &str| {
                policy.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
            };
            format!(
                "Version {}\n\n{}\n{}",
                field(policy, "version"),
                table(&list("/document/scopes"), SCOPE_COLUMNS),
                table(&list("/document/routes"), ROUTE_COLUMNS)
            )
        }),
    }
}
