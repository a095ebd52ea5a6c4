//! `omf audit`.

mod export;
mod payload;
mod stats;
mod tail;

use clap::{Args, Subcommand};
use omniflow_api_types::audit::{AuditEntryJson, AuditGapJson, CallInProgressJson};
use omniflow_api_types::values::{Decision, Environment};

use super::args::{PageArgs, one_of};
use super::client::Client;
use super::output::{Column, NONE, Output, cell, cell_or_none};

/// Arguments and commands of `omf audit`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    omf audit --key ci --status 4xx\n  \
    omf audit --ip 203.0.113.0/24 --from 2026-03-01T00:00:00Z --json\n  \
    omf audit stats --by key\n  \
    omf audit in-progress\n  \
    omf audit gaps"
)]
pub struct Command {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    records: Records,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// List gaps in the audit log (lost or purged records), newest first.
    #[command(after_help = "Examples:\n  omf audit gaps\n  omf audit gaps --limit 500 --json")]
    Gaps(PageArgs),
    /// List calls in progress, most recently reported first.
    #[command(after_help = "Examples:\n  omf audit in-progress\n  omf audit in-progress --key ci --json\n\n\
        Gateways report allowed calls that have been in progress for 5 seconds. The list shows a call until its record arrives.")]
    InProgress(InProgress),
    /// Summarize calls, errors and latencies of the last 24 hours or another period.
    Stats(stats::Stats),
    /// Export all matching records to standard output, newest first.
    Export(export::Export),
    /// Print new records as they arrive, until interrupted.
    Tail(tail::Tail),
    /// Show the payload of a call.
    Payload(payload::Payload),
    /// Rotate the key that encrypts payloads; earlier payloads stay readable.
    #[command(after_help = "Example:\n  omf audit rotate-payload-key")]
    RotatePayloadKey,
}

#[derive(Debug, Args)]
struct InProgress {
    /// Only calls with this key (name or ID).
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
struct Records {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    page: PageArgs,
}

/// Filters of calls.
#[derive(Debug, Args)]
struct Filter {
    /// Only calls with this key (name or ID).
    #[arg(long)]
    key: Option<String>,
    /// Only calls with keys in this environment.
    #[arg(long, value_parser = one_of(Environment::ALL.map(Environment::as_str)))]
    environment: Option<String>,
    /// Only calls to this route template, such as /api/v1/contacts/{id}.
    #[arg(long)]
    endpoint: Option<String>,
    /// Only calls with this method, in upper case.
    #[arg(long)]
    method: Option<String>,
    /// Only calls with this status, such as 404, or status class, such as 4xx.
    #[arg(long)]
    status: Option<String>,
    /// Only gRPC calls with this status, such as 14, or error for all but 0.
    #[arg(long, value_name = "CODE")]
    grpc_status: Option<String>,
    /// Only calls with this decision.
    #[arg(long, value_parser = one_of(Decision::ALL.map(Decision::as_str)))]
    decision: Option<String>,
    /// Only calls with this reason code, such as key_revoked.
    #[arg(long)]
    reason: Option<String>,
    /// Only calls from this IP address or network.
    #[arg(long, value_name = "NETWORK")]
    ip: Option<String>,
    /// Only calls at or after this time, such as 2026-03-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only calls before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

const COLUMNS: &[Column<AuditEntryJson>] = &[
    ("RECORD", |entry| cell(&entry.id)),
    ("TIME", |entry| cell(entry.time)),
    ("KEY", |entry| cell_or_none(entry.key_name.as_ref())),
    ("METHOD", |entry| cell(&entry.method)),
    ("PATH", |entry| cell(&entry.path)),
    ("STATUS", |entry| cell(entry.status)),
    ("GRPC", |entry| cell_or_none(entry.grpc_status)),
    ("REASON", |entry| cell(&entry.reason)),
    ("FROM", |entry| cell_or_none(entry.source_ip)),
    ("MICROSECONDS", |entry| cell(entry.latency_us)),
    ("GATEWAY", |entry| cell(&entry.gateway)),
    ("AGGREGATED", |entry| cell_or_none(entry.aggregated_calls)),
    ("PAYLOAD", |entry| if entry.has_payload { "yes".to_owned() } else { NONE.to_owned() }),
];

const GAP_COLUMNS: &[Column<AuditGapJson>] = &[
    ("FROM", |gap| cell_or_none(gap.from)),
    ("TO", |gap| cell(gap.to)),
    ("MISSING", |gap| format!("{}{}", if gap.at_least { "at least " } else { "" }, gap.missing)),
    ("GATEWAY", |gap| cell(&gap.gateway)),
    ("INCARNATION", |gap| cell_or_none(gap.incarnation.as_ref())),
    ("VM", |gap| cell_or_none(gap.vm.as_ref())),
    ("CAUSE", |gap| cell(&gap.cause)),
];

const IN_PROGRESS_COLUMNS: &[Column<CallInProgressJson>] = &[
    ("SINCE", |call| cell(call.time)),
    ("KEY", |call| cell_or_none(call.key_name.as_ref())),
    ("METHOD", |call| cell(&call.method)),
    ("PATH", |call| cell(&call.path)),
    ("STATUS", |call| cell_or_none((call.status != 0).then_some(call.status))),
    ("FROM", |call| cell_or_none(call.source_ip)),
    ("GATEWAY", |call| cell(&call.gateway)),
    ("REQUEST", |call| cell(&call.request_id)),
    ("LOST", |call| if call.lost { "yes".to_owned() } else { NONE.to_owned() }),
];

pub(crate) fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command.other {
        Some(Other::Gaps(page)) => {
            let gaps = client.list("/v1/audit/gaps", &[page.limit(), page.cursor()])?;
            output.list(&gaps, "gaps", GAP_COLUMNS)
        }
        Some(Other::InProgress(InProgress { key, page })) => {
            let calls = client.list("/v1/audit/in-progress", &[("key", key), page.limit(), page.cursor()])?;
            output.list(&calls, "calls in progress", IN_PROGRESS_COLUMNS)
        }
        Some(Other::Stats(args)) => stats::run(args, client, output),
        Some(Other::Export(args)) => export::run(args, client),
        Some(Other::Tail(args)) => tail::run(args, client, output),
        Some(Other::Payload(args)) => payload::show(&args, client, output),
        Some(Other::RotatePayloadKey) => payload::rotate_key(client, output),
        None => {
            let Records { filter, page } = command.records;
            let mut query = filter.query();
            query.extend([page.limit(), page.cursor()]);
            output.list(&client.list("/v1/audit", &query)?, "records", COLUMNS)
        }
    }
}

// === impl Filter ===

impl Filter {
    /// The query parameters.
    fn query(self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("key", self.key),
            ("environment", self.environment),
            ("endpoint", self.endpoint),
            ("method", self.method),
            ("status", self.status),
            ("grpc_status", self.grpc_status),
            ("decision", self.decision),
            ("reason", self.reason),
            ("ip", self.ip),
            ("from", self.from),
            ("to", self.to),
        ]
    }
}
