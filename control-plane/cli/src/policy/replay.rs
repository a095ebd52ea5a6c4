//! `omf policy replay`.

use anyhow::Context;
use clap::Args;
use omniflow_api_types::policy::{ReplayChangeJson, ReplayJson};

use super::document::{DocumentArgs, obstacles};
use crate::client::{Client, Method};
use crate::output::{Answer, Column, Output, cell, cell_or_none, counted, table};

/// Arguments of `omf policy replay`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy replay policy.toml\n  \
    omf policy replay policy.toml --key ci --from 2027-01-01T00:00:00Z\n\n\
    Each recorded call is evaluated against the effective policy and the draft, with the current scopes of its\n\
    key. At most a million calls are tested, newest first. Calls without a valid key are not affected by any policy.")]
pub struct Replay {
    #[command(flatten)]
    draft: DocumentArgs,
    /// Only calls with this key (name or ID).
    #[arg(long)]
    key: Option<String>,
    /// Only calls at or after this time, such as 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only calls before this time.
    #[arg(long, value_name = "TIME")]
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
        "{} tested: {} (with {}) would be newly refused, {} (with {}) newly allowed.\n\
         Still allowed: {}. Still refused: {}. Not affected by any policy: {}. Not testable: {}.\n",
        counted(counts.calls, "call"),
        counts.newly_refused,
        counted(counts.keys_newly_refused, "key"),
        counts.newly_allowed,
        counted(counts.keys_newly_allowed, "key"),
        counts.still_allowed,
        counts.still_refused,
        counts.unaffected,
        counts.not_replayable,
    );
    if !replay.complete {
        text.push_str(&format!("Calls before {} were not tested.\n", cell_or_none(replay.oldest)));
    }
    text.push_str(&obstacles(&replay.blocked_by));
    if !replay.changes.is_empty() {
        text.push_str(&format!("\n{}", table(&replay.changes, CHANGE_COLUMNS)));
    }
    if replay.more_changes {
        text.push_str("Only the changes with the most calls are listed.\n");
    }
    text
}
