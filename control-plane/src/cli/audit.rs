//! `omf audit`.

use clap::Args;

use super::args::Page;
use super::client::Client;
use super::output::{Column, Output, field};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf audit --key ci --status 4xx\n  \
    omf audit --ip 203.0.113.0/24 --from 2026-03-01T00:00:00Z --json")]
pub(super) struct Command {
    /// Name or identifier of a key.
    #[arg(long)]
    key: Option<String>,
    /// live or test.
    #[arg(long)]
    environment: Option<String>,
    /// A route template, such as /api/v1/contacts/{id}.
    #[arg(long)]
    endpoint: Option<String>,
    /// A method, in upper case.
    #[arg(long)]
    method: Option<String>,
    /// A status such as 404, or a class such as 4xx.
    #[arg(long)]
    status: Option<String>,
    /// allowed or denied.
    #[arg(long)]
    decision: Option<String>,
    /// A reason code, such as key_revoked.
    #[arg(long)]
    reason: Option<String>,
    /// The caller's address, or a network.
    #[arg(long)]
    ip: Option<String>,
    /// The earliest time, such as 2026-03-01T00:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// The time before which calls began.
    #[arg(long)]
    to: Option<String>,
    #[command(flatten)]
    page: Page,
}

const COLUMNS: &[Column] = &[
    ("TIME", |entry| field(entry, "time")),
    ("KEY", |entry| field(entry, "key_name")),
    ("METHOD", |entry| field(entry, "method")),
    ("PATH", |entry| field(entry, "path")),
    ("STATUS", |entry| field(entry, "status")),
    ("REASON", |entry| field(entry, "reason")),
    ("FROM", |entry| field(entry, "source_ip")),
    ("MICROSECONDS", |entry| field(entry, "latency_us")),
    ("GATEWAY", |entry| field(entry, "gateway")),
];

pub(super) fn run(args: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = [
        ("key", args.key),
        ("environment", args.environment),
        ("endpoint", args.endpoint),
        ("method", args.method),
        ("status", args.status),
        ("decision", args.decision),
        ("reason", args.reason),
        ("ip", args.ip),
        ("from", args.from),
        ("to", args.to),
        args.page.limit(),
        args.page.cursor(),
    ];
    output.list(&client.list("/v1/audit", &query)?, "records", COLUMNS)
}
