//! `omf events`.

use clap::Args;
use serde_json::Value;

use super::args::Page;
use super::client::Client;
use super::output::{Column, Output, field};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf events --subject ci\n  \
    omf events --action key.revoked --from 2026-03-01T00:00:00Z\n  \
    omf events --actor review --json")]
pub(super) struct Events {
    /// What was done, such as key.rotated.
    #[arg(long)]
    action: Option<String>,
    /// The name of the token with which it was done.
    #[arg(long)]
    actor: Option<String>,
    /// Name or identifier of the key or token, or the number of the policy, that it was done to.
    #[arg(long)]
    subject: Option<String>,
    /// The earliest time, such as 2026-03-01T00:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// The time before which it was done.
    #[arg(long)]
    to: Option<String>,
    #[command(flatten)]
    page: Page,
}

const COLUMNS: &[Column] = &[
    ("TIME", |event| field(event, "time")),
    ("ACTOR", |event| of(event, "actor")),
    ("ACTION", |event| field(event, "action")),
    ("SUBJECT", |event| of(event, "subject")),
    ("BEFORE", |event| state(event, "before")),
    ("AFTER", |event| state(event, "after")),
];

pub(super) fn run(args: Events, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = [
        ("action", args.action),
        ("actor", args.actor),
        ("subject", args.subject),
        ("from", args.from),
        ("to", args.to),
        args.page.limit(),
        args.page.cursor(),
    ];
    output.list(&client.list("/v1/events", &query)?, "events", COLUMNS)
}

fn of(event: &Value, name: &str) -> String {
    field(event.get(name).unwrap_or(&Value::Null), "name")
}

/// The fields of a state on one line.
fn state(event: &Value, name: &str) -> String {
    let Some(state) = event.get(name) else { return "-".to_owned() };
    let names =
        state.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    match names.is_empty() {
        true => "-".to_owned(),
        false => {
            names.iter().map(|name| format!("{name}={}", field(state, name))).collect::<Vec<_>>().join(" ")
        }
    }
}
