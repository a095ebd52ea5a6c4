//! `omf audit export`.

use std::io::{ErrorKind, copy, stdout};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::Filter;
use crate::client::{Call, Client, Method};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf audit export --key ci > audit.ndjson\n  \
    omf audit export --format csv --from 2026-03-01T00:00:00Z > audit.csv\n\n\
    In CSV, a cell that a spreadsheet would interpret as a formula is prefixed with an apostrophe.")]
pub(super) struct Export {
    /// Output format: one JSON document per line, or CSV with a header.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Ndjson,
    Csv,
}

pub(super) fn run(args: Export, client: &Client) -> anyhow::Result<()> {
    let (format, media_type) = match args.format {
        Format::Ndjson => ("ndjson", "application/x-ndjson"),
        Format::Csv => ("csv", "text/csv"),
    };
    let mut query = args.filter.query();
    query.push(("format", Some(format.to_owned())));
    let mut body = client.stream(Call::new(Method::GET, "/v1/audit/export").query(&query), media_type)?;
    match copy(&mut body, &mut stdout().lock()) {
        // The reader closed the pipe.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        copied => copied.map(drop).context("the export is incomplete: run it again"),
    }
}
