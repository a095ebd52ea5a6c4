//! `omf audit stats`.

use clap::Args;
use serde_json::{Map, Value};

use super::Filter;
use crate::cli::client::Client;
use crate::cli::output::{Column, Output, field, table};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf audit stats --key ci --from 2026-03-01T00:00:00Z\n  \
    omf audit stats --by key --status 4xx\n  \
    omf audit stats --by hour,endpoint --json\n\n\
    Latencies are rounded down to three significant digits.")]
pub(super) struct Stats {
    /// By what to group, one or two of hour, key, endpoint, address, status and reason, with a comma between.
    #[arg(long, default_value = "hour")]
    by: String,
    /// The most groups, those of most calls first, up to 1000.
    #[arg(long)]
    limit: Option<u32>,
    #[command(flatten)]
    filter: Filter,
}

const COLUMNS: &[Column] = &[
    ("GROUP", |row| field(row, "group")),
    ("CALLS", |row| field(row, "calls")),
    ("4XX", |row| field(row, "client_errors")),
    ("5XX", |row| field(row, "server_errors")),
    ("P50 MICROSECONDS", |row| latency(row, "p50")),
    ("P95", |row| latency(row, "p95")),
    ("P99", |row| latency(row, "p99")),
];

pub(super) fn run(args: Stats, client: &Client, output: Output) -> anyhow::Result<()> {
    let mut query = args.filter.query();
    query.extend([("by", Some(args.by)), ("limit", args.limit.map(|limit| limit.to_string()))]);
    let stats = client.get("/v1/audit/stats", &query, "groups")?;
    output.print(&stats, |stats| table(&rows(stats), COLUMNS))
}

/// A row for each group, and for what is not in one, and for all.
fn rows(stats: &Value) -> Vec<Value> {
    let groups = stats.get("groups").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut rows: Vec<Value> =
        groups.iter().filter_map(|group| row(name(group), group.get("counts")?)).collect();
    for whole in ["other", "total"] {
        rows.extend(stats.get(whole).and_then(|counts| row(whole.to_owned(), counts)));
    }
    rows
}

/// Counts with a name; `None` where there are no counts.
fn row(name: String, counts: &Value) -> Option<Value> {
    let mut row: Map<String, Value> = counts.as_object()?.clone();
    row.insert("group".to_owned(), Value::String(name));
    Some(Value::Object(row))
}

/// What the calls of a group have in common, with the key's name beside its identifier.
fn name(group: &Value) -> String {
    let values = field(group, "group");
    match group.get("key_name").and_then(Value::as_str) {
        Some(_) => format!("{values} ({})", field(group, "key_name")),
        None => values,
    }
}

fn latency(row: &Value, percentile: &str) -> String {
    field(row.get("latency_us").unwrap_or(&Value::Null), percentile)
}
