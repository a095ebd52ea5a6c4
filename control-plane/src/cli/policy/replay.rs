//! `omf policy replay`.

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::{DocumentArgs, obstacles};
use crate::cli::client::{Client, Method};
use crate::cli::output::{Column, Output, field, table};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy replay policy.toml\n  \
    omf policy replay policy.toml --key ci --from 2027-01-01T00:00:00Z\n\n\
    Each recorded call is decided by the policy in force and by the draft, with the scopes that its key has now. At most\n\
    a million calls are replayed, newest first. What no policy decides stays as it was: calls without a key or with one\n\
    that was not valid.")]
pub(in crate::cli) struct Replay {
    #[command(flatten)]
    draft: DocumentArgs,
    /// Only calls of the key with this name or identifier.
    #[arg(long)]
    key: Option<String>,
    /// The earliest time, such as 2027-01-01T00:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// The time before which calls began.
    #[arg(long)]
    to: Option<String>,
}

const CHANGE_COLUMNS: &[Column] = &[
    ("CALLS", |change| field(change, "calls")),
    ("KEY", |change| field(change, "key_name")),
    ("METHOD", |change| field(change, "method")),
    ("ENDPOINT", |change| field(change, "endpoint")),
    ("BEFORE", |change| field(change, "before")),
    ("AFTER", |change| field(change, "after")),
    ("NEWEST RECORD", |change| field(change, "newest_record")),
];

pub(super) fn run(args: Replay, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = [("key", args.key), ("from", args.from), ("to", args.to)];
    let call = args.draft.read()?.call(Method::POST, "/v1/policy/replay").query(&query);
    let replay = client.send(call, "newly_refused").context(args.draft.name())?;
    output.print(&replay, describe)
}

fn describe(replay: &Value) -> String {
    let number = |name: &str| field(replay, name);
    let mut text = format!(
        "Of {} calls, {} (of {} keys) would newly be refused and {} (of {} keys) newly be allowed.\n\
         Still allowed {}, still refused {}, not affected by any policy {}, not replayable {}.\n",
        number("calls"),
        number("newly_refused"),
        number("keys_newly_refused"),
        number("newly_allowed"),
        number("keys_newly_allowed"),
        number("still_allowed"),
        number("still_refused"),
        number("unaffected"),
        number("not_replayable"),
    );
    if replay.get("complete") == Some(&Value::Bool(false)) {
        text.push_str(&format!("Calls before {} were left out.\n", number("oldest")));
    }
    text.push_str(&obstacles(replay));
    let changes = replay.get("changes").and_then(Value::as_array).cloned().unwrap_or_default();
    if !changes.is_empty() {
        text.push_str(&format!("\n{}", table(&changes, CHANGE_COLUMNS)));
    }
    if replay.get("more_changes") == Some(&Value::Bool(true)) {
        text.push_str("There are more kinds of changes; these have the most calls.\n");
    }
    text
}
