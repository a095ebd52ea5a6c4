//! `omf audit patterns`.

use clap::Args;

use crate::cli::args::{Page, one_of};
use crate::cli::client::Client;
use crate::cli::output::{Column, Output, field};
use omniflow_domain::finding::FindingKind;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf audit patterns\n  \
    omf audit patterns --key ci --kind new_network --json\n\n\
    With --json each finding has a query: the path of the API that lists its calls.")]
pub(super) struct Patterns {
    /// Name or identifier of a key.
    #[arg(long)]
    key: Option<String>,
    /// A pattern.
    #[arg(long, value_parser = one_of(FindingKind::ALL.map(FindingKind::as_str)))]
    kind: Option<String>,
    /// The earliest time of the last call, such as 2026-03-01T00:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// The time before which the first call began.
    #[arg(long)]
    to: Option<String>,
    #[command(flatten)]
    page: Page,
}

const COLUMNS: &[Column] = &[
    ("ID", |finding| field(finding, "id")),
    ("FIRST SEEN", |finding| field(finding, "first_seen")),
    ("LAST SEEN", |finding| field(finding, "last_seen")),
    ("KEY", |finding| field(finding, "key_name")),
    ("KIND", |finding| field(finding, "kind")),
    ("SUMMARY", |finding| field(finding, "summary")),
];

pub(super) fn run(args: Patterns, client: &Client, output: Output) -> anyhow::Result<()> {
    let Patterns { key, kind, from, to, page } = args;
    let query = [("key", key), ("kind", kind), ("from", from), ("to", to), page.limit(), page.cursor()];
    output.list(&client.list("/v1/audit/patterns", &query)?, "findings", COLUMNS)
}
