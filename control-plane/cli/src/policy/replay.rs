//! `omf policy replay`.

use anyhow::Context;
use clap::Args;
use omniflow_api_types::policy::{ReplayChangeJson, ReplayJson};

use super::document::{DocumentArgs, obstacles};
use crate::client::{Client, Method};
use crate::output::{Answer, Column, Output, cell, cell_or_none, table};

/// Arguments of `omf policy replay`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy replay policy.toml\n  \
    omf policy replay policy.toml --key ci --from 2027-01-01T00:00:00Z\n\n\
    Each recorded call is decided by the effective policy and by the draft, with the scopes that its key has now. At most\n\
    a million calls are replayed, newest first. What no policy decides stays as it was: calls without a key or with one\n\
    that was not valid.")]
pub struct Replay {
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

const CHANGE_COLUMNS: &[Column<ReplayChangeJson>] = &[
    ("CALLS", |change| cell(change.calls)),
    ("KEY", |change| cell_or_none(change.key_name.as_ref())),
    ("METHOD", |change| cell(&change.method)),
    ("ENDPOINT", |change| cell_or_none(change.endpoint.as_ref())),
    ("BEFORE", |change| cell(&change.before)),
    ("AFTER", |change| cell(&change.after)),
    ("NEWEST RECORD", |change| cell(&change.newest_record)),
];

pub(super) fn run(args: Replay, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = [("key", args.key), ("from", args.from), ("to", args.to)];
    let call = args.draft.read()?.call(Method::POST, "/v1/policy/replay").query(&query);
    let replay: Answer<ReplayJson> = client.send(call).context(args.draft.name())?;
    output.print(&replay, describe)
}

fn describe(replay: &ReplayJson) -> String {
    let counts = &replay.counts;
    let mut text = format!(
        "Of {} calls, {} (of {} keys) would newly be refused and {} (of {} keys) newly be allowed.\n\
         Still allowed {}, still refused {}, not affected by any policy {}, not replayable {}.\n",
        counts.calls,
        counts.newly_refused,
        counts.keys_newly_refused,
        counts.newly_allowed,
        counts.keys_newly_allowed,
        counts.still_allowed,
        counts.still_refused,
        counts.unaffected,
        counts.not_replayable,
    );
    if !replay.complete {
        text.push_str(&format!("Calls before {} were left out.\n", cell_or_none(replay.oldest)));
    }
    text.push_str(&obstacles(&replay.blocked_by));
    if !replay.changes.is_empty() {
        text.push_str(&format!("\n{}", table(&replay.changes, CHANGE_COLUMNS)));
    }
    if replay.more_changes {
        text.push_str("There are more kinds of changes; these have the most calls.\n");
    }
    text
}
