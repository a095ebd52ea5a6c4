//! `omf audit stats`.

use clap::Args;
use omniflow_api_types::stats::{AuditStatsJson, StatsCountsJson, StatsGroupJson};

use super::Filter;
use crate::client::Client;
use crate::output::{Column, Output, cell, cell_or_none, table};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf audit stats --key ci --from 2026-03-01T00:00:00Z\n  \
    omf audit stats --by key --status 4xx\n  \
    omf audit stats --by hour,endpoint --json\n\n\
    Latencies are rounded down to three significant digits.")]
pub(super) struct Stats {
    /// One or two of hour, key, endpoint, address, status, grpc_status or reason.
    ///
    /// Separate two groupings with a comma.
    #[arg(long, value_name = "GROUPINGS", default_value = "hour")]
    by: String,
    /// Maximum number of groups, up to 1000; groups with the most calls come first.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    #[command(flatten)]
    filter: Filter,
}

/// A named row of counts.
struct Row {
    name: String,
    counts: StatsCountsJson,
}

const COLUMNS: &[Column<Row>] = &[
    ("GROUP", |row| row.name.clone()),
    ("CALLS", |row| cell(row.counts.calls)),
    ("4XX", |row| cell(row.counts.client_errors)),
    ("5XX", |row| cell(row.counts.server_errors)),
    ("GRPC ERRORS", |row| cell(row.counts.grpc_errors)),
    ("P50 MICROSECONDS", |row| cell_or_none(row.counts.latency_us.p50)),
    ("P95", |row| cell_or_none(row.counts.latency_us.p95)),
    ("P99", |row| cell_or_none(row.counts.latency_us.p99)),
];

pub(super) fn run(args: Stats, client: &Client, output: Output) -> anyhow::Result<()> {
    let mut query = args.filter.query();
    query.extend([("by", Some(args.by)), ("limit", args.limit.map(|limit| limit.to_string()))]);
    let stats = client.get("/v1/audit/stats", &query)?;
    output.print(&stats, |stats| table(&rows(stats), COLUMNS))
}

/// A row per group, a row for all other calls, and the total.
fn rows(stats: &AuditStatsJson) -> Vec<Row> {
    let mut rows: Vec<Row> =
        stats.groups.iter().map(|group| Row { name: name(group), counts: group.counts }).collect();
    rows.extend(stats.other.map(|counts| Row { name: "other".to_owned(), counts }));
    rows.push(Row { name: "total".to_owned(), counts: stats.total });
    rows
}

/// The values that identify a group, with the name of the key next to its ID.
fn name(group: &StatsGroupJson) -> String {
    let values: Vec<String> = group.group.iter().map(|value| cell_or_none(value.as_ref())).collect();
    let values = values.join(", ");
    match &group.key_name {
        Some(name) => format!("{values} ({})", cell(name)),
        None => values,
    }
}
