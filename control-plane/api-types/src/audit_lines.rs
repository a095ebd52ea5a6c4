//! Records of the audit log as lines of a file.

use std::fmt;
use std::str::FromStr;

use std::io;

use csv::{Terminator, WriterBuilder};
use futures_util::{Stream, StreamExt};
use omniflow_domain::audit::AuditEntry;

use super::audit::AuditEntryJson;

/// The columns: the fields of a record, in the order of the API.
const COLUMNS: [&str; 24] = [
    "id",
    "time",
    "key_id",
    "key_name",
    "version_id",
    "environment",
    "method",
    "endpoint",
    "path",
    "status",
    "grpc_status",
    "interruption",
    "decision",
    "reason",
    "latency_us",
    "source_ip",
    "request_id",
    "request_bytes",
    "response_bytes",
    "gateway",
    "argument_hash",
    "argument_hash_partial",
    "aggregated_calls",
    "first_time",
];

/// Initial capacity in bytes, enough for most lines.
const LINE_CAPACITY: usize = 512;

/// The first line of a CSV file.
pub const CSV_HEADER: &str = "id,time,key_id,key_name,version_id,environment,method,endpoint,path,status,\
    grpc_status,interruption,decision,reason,latency_us,source_ip,request_id,request_bytes,response_bytes,gateway,argument_hash,\
    argument_hash_partial,aggregated_calls,first_time\r\n";

/// The format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// One JSON document per line.
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
}

/// The text does not name a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidExportFormat;

// === impl ExportFormat ===

impl ExportFormat {
    /// The value of `Content-Type`.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// The value of `Content-Disposition`.
    pub const fn disposition(self) -> &'static str {
        match self {
            Self::Ndjson => "attachment; filename=\"audit.ndjson\"",
            Self::Csv => "attachment; filename=\"audit.csv\"",
        }
    }

    /// The text before the first record.
    pub const fn head(self) -> &'static str {
        match self {
            Self::Ndjson => "",
            Self::Csv => CSV_HEADER,
        }
    }

    /// Writes a record as one line.
    ///
    /// # Errors
    ///
    /// Fails only if the writer fails.
    fn line(self, entry: &AuditEntryJson) -> io::Result<String> {
        match self {
            Self::Ndjson => json_line(entry).map_err(io::Error::other),
            Self::Csv => csv_line(entry),
        }
    }
}

impl FromStr for ExportFormat {
    type Err = InvalidExportFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ndjson" => Ok(Self::Ndjson),
            "csv" => Ok(Self::Csv),
            _ => Err(InvalidExportFormat),
        }
    }
}

impl fmt::Display for InvalidExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("format must be ndjson or csv")
    }
}

impl std::error::Error for InvalidExportFormat {}

/// The text of a file with these batches of records, in pieces.
pub fn file<E: std::error::Error + Send + Sync + 'static>(
    format: ExportFormat,
    batches: impl Stream<Item = Result<Vec<AuditEntry>, E>>,
) -> impl Stream<Item = io::Result<String>> {
    let mut head = format.head();
    batches.map(move |batch| {
        let mut piece = std::mem::take(&mut head).to_owned();
        for record in batch.map_err(io::Error::other)? {
            piece.push_str(&format.line(&AuditEntryJson::from(record))?);
        }
        Ok(piece)
    })
}

/// Writes a record as one line of JSON.
pub fn json_line(entry: &AuditEntryJson) -> serde_json::Result<String> {
    serde_json::to_string(entry).map(|line| line + "\n")
}

/// Writes a record as one line of CSV (RFC 4180). Null becomes an empty cell.
///
/// # Errors
///
/// Fails only if the CSV writer fails.
fn csv_line(entry: &AuditEntryJson) -> io::Result<String> {
    line(cells(entry))
}

/// Writes the cells of a record, in the order of [`COLUMNS`].
fn cells(entry: &AuditEntryJson) -> [String; COLUMNS.len()] {
    [
        harmless(&entry.id),
        fixed(Some(entry.time)),
        fixed(entry.key_id),
        entry.key_name.as_deref().map(harmless).unwrap_or_default(),
        fixed(entry.version_id),
        fixed(entry.environment),
        harmless(&entry.method),
        entry.endpoint.as_deref().map(harmless).unwrap_or_default(),
        harmless(&entry.path),
        fixed(Some(entry.status)),
        fixed(entry.grpc_status),
        fixed(entry.interruption.as_deref()),
        harmless(&entry.decision),
        harmless(&entry.reason),
        fixed(Some(entry.latency_us)),
        fixed(entry.source_ip),
        harmless(&entry.request_id),
        fixed(Some(entry.request_bytes)),
        fixed(Some(entry.response_bytes)),
        harmless(&entry.gateway),
        fixed(entry.argument_hash.as_deref()),
        fixed(Some(entry.argument_hash_partial)),
        fixed(entry.aggregated_calls),
        fixed(entry.first_time),
    ]
}

/// A line of CSV with quotes where a cell needs them.
fn line(cells: impl IntoIterator<Item = String>) -> io::Result<String> {
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .buffer_capacity(LINE_CAPACITY)
        .from_writer(Vec::with_capacity(LINE_CAPACITY));
    writer.write_record(cells.into_iter().map(String::into_bytes))?;
    let bytes = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// A number, time or other value that cannot begin like a formula; empty for null.
fn fixed(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Clients choose paths, methods and request ids. A spreadsheet would run a cell that begins like a formula, so it gets
/// an apostrophe in front, as OWASP advises against CSV injection.
fn harmless(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_columns() {
        assert_eq!(CSV_HEADER, COLUMNS.join(",") + "\r\n");
    }

    #[test]
    fn cells_are_quoted_and_run_nothing() {
        for (text, expected) in [
            ("", ""),
            ("/api/v1/contacts", "/api/v1/contacts"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1,A2)", "\"'@SUM(A1,A2)\""),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
        ] {
            let written = line(["a".to_owned(), harmless(text), "b".to_owned()]).unwrap();
            assert_eq!(written, format!("a,{expected},b\r\n"), "{text:?}");
        }
        assert_eq!(
            (fixed(Some(200)), fixed(Some(false)), fixed(None::<u16>)),
            ("200".into(), "false".into(), String::new())
        );
    }
}
