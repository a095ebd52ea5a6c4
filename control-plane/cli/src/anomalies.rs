//! `omf anomalies`.

use clap::Args;
use omniflow_api_types::anomaly::AnomalyJson;
use omniflow_api_types::values::AnomalyKind;

use crate::args::{PageArgs, one_of};
use crate::client::Client;
use crate::output::{Column, Output, cell};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf anomalies\n  \
    omf anomalies --key ci --kind new_network --json\n\n\
    With --json, the query field of each anomaly is the API path that lists its calls.")]
pub struct Anomalies {
    /// Only anomalies for this key (name or ID).
    #[arg(long)]
    key: Option<String>,
    /// Only anomalies of this kind.
    #[arg(long, value_parser = one_of(AnomalyKind::ALL.map(AnomalyKind::as_str)))]
    kind: Option<String>,
    /// Only anomalies with calls at or after this time, such as 2026-03-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only anomalies with calls before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

const COLUMNS: &[Column<AnomalyJson>] = &[
    ("ID", |anomaly| cell(&anomaly.id)),
    ("FIRST SEEN", |anomaly| cell(anomaly.first_seen)),
    ("LAST SEEN", |anomaly| cell(anomaly.last_seen)),
    ("KEY", |anomaly| cell(&anomaly.key_name)),
    ("KIND", |anomaly| cell(&anomaly.kind)),
    ("SUMMARY", |anomaly| cell(&anomaly.summary)),
];

pub(super) fn run(args: Anomalies, client: &Client, output: Output) -> anyhow::Result<()> {
    let Anomalies { key, kind, from, to, page } = args;
    let query = [("key", key), ("kind", kind), ("from", from), ("to", to), page.limit(), page.cursor()];
    output.list(&client.list("/v1/anomalies", &query)?, "anomalies", COLUMNS)
}
