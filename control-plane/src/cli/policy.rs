//! `omf policy`.

use std::fs;
use std::io::{Read, stdin};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::Client;
use super::output::{Column, Output, field, table};
use crate::fleet::MAX_WAIT;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the routes and scopes in force. With --json the document alone, to be edited and set again.
    #[command(after_help = "Examples:\n  \
        omf policy show\n  \
        omf policy show --json > policy.json    # edit it, then: omf policy set policy.json")]
    Show,
    /// Set routes and scopes: the whole document, in place of the one in force.
    Set(Set),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy show --json > policy.json    # to begin with the one in force\n  \
    omf policy set policy.json --wait 5s\n  \
    generate-policy | omf policy set -\n\n\
    A document, in which each path is a template and methods are names such as GET, or read, write or any:\n  \
    {\"scopes\": [{\"name\": \"orders:read\", \"description\": \"Read orders\"}],\n   \
    \"routes\": [{\"path\": \"/shop/orders/{id}\", \"methods\": [\"read\"], \"scope\": \"orders:read\"}]}\n\n\
    What no route has is refused. A scope stays as long as a key has it that is not revoked.")]
pub(super) struct Set {
    /// The document in JSON; - for standard input.
    file: String,
    #[arg(
        long,
        help = format!(
            "Wait until all gateways enforce it, at most this long, up to {}s. Ends with 1 if some do not by then",
            MAX_WAIT.as_secs()
        )
    )]
    wait: Option<String>,
}

const ROUTE_COLUMNS: &[Column] = &[
    ("METHODS", |route| field(route, "methods")),
    ("PATH", |route| field(route, "path")),
    ("SCOPE", |route| field(route, "scope")),
];
const SCOPE_COLUMNS: &[Column] =
    &[("SCOPE", |scope| field(scope, "name")), ("ALLOWS", |scope| field(scope, "description"))];

pub(super) fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Show => {
            let policy = client.get("/v1/policy", &[], "document")?;
            let shown = if output.json { policy.get("document").unwrap_or(&Value::Null) } else { &policy };
            output.print(shown, describe)
        }
        Command::Set(args) => set(args, client, output),
    }
}

fn set(args: Set, client: &Client, output: Output) -> anyhow::Result<()> {
    let Set { file, wait } = args;
    let name = if file == "-" { "standard input".to_owned() } else { file.clone() };
    let document = read(&file).with_context(|| name.clone())?;
    let answer = client.put("/v1/policy", &[("wait", wait)], &document, "version").context(name)?;
    output.print(&answer, |answer| {
        format!("Version {}\n", field(answer, "version")) + &enforcement_note(answer).unwrap_or_default()
    })?;
    if answer.pointer("/enforcement/complete") == Some(&Value::Bool(false)) {
        bail!("set, but not every gateway enforces it yet");
    }
    Ok(())
}

fn read(file: &str) -> std::io::Result<Vec<u8>> {
    if file != "-" {
        return fs::read(file);
    }
    let mut document = Vec::new();
    stdin().read_to_end(&mut document)?;
    Ok(document)
}

/// Which gateways do and do not enforce it, where that was waited for.
fn enforcement_note(answer: &Value) -> Option<String> {
    let gateways = answer.pointer("/enforcement/gateways")?.as_array()?;
    let columns: &[Column] =
        &[("GATEWAY", |gateway| field(gateway, "id")), ("ENFORCED", |gateway| field(gateway, "enforced"))];
    Some(format!("\n{}", table(gateways, columns)))
}

fn describe(policy: &Value) -> String {
    let list = |pointer: &str| policy.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    format!(
        "Version {}\n\n{}\n{}",
        field(policy, "version"),
        table(&list("/document/scopes"), SCOPE_COLUMNS),
        table(&list("/document/routes"), ROUTE_COLUMNS)
    )
}
