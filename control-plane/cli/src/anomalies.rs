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
    With --json each anomaly has a query: the path of the API that lists its calls.")]
pub struct Anomalies {
    /// Name or identifier of a key.
    #[arg(long)]
    key: Option<String>,
    /// Kind of anomaly.
    #[arg(long, value_parser = one_of(AnomalyKind::ALL.map(AnomalyKind::as_str)))]
    kind: Option<String>,
    /// The earliest time of the last call, such as 2026-03-01T00:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// The time before which the first call began.
    #[arg(long)]
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
