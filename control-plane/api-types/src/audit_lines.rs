//! Records of the audit log as lines of a file.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::audit::AuditEntryJson;

/// The columns, which are the fields of a record in the order of the API.
const COLUMNS: [&str; 22] = [
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
    "folded_calls",
    "first_time",
];

/// The first line of a CSV file.
pub const CSV_HEADER: &str = "id,time,key_id,key_name,version_id,environment,method,endpoint,path,status,\
    decision,reason,latency_us,source_ip,request_id,request_bytes,response_bytes,gateway,argument_hash,\
    argument_hash_partial,folded_calls,first_time\r\n";

/// The format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// A JSON document a line.
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
}

/// A word that names no format.
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

    /// What precedes the first record.
    pub const fn head(self) -> &'static str {
        match self {
            Self::Ndjson => "",
            Self::Csv => CSV_HEADER,
        }
    }

    /// A record as one line.
    pub fn line(self, entry: &AuditEntryJson) -> serde_json::Result<String> {
        match self {
            Self::Ndjson => json_line(entry),
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
        f.write_str("format is ndjson or csv")
    }
}

impl std::error::Error for InvalidExportFormat {}

/// A record as one line of JSON.
pub fn json_line(entry: &AuditEntryJson) -> serde_json::Result<String> {
    serde_json::to_string(entry).map(|line| line + "\n")
}

/// A record as one line of CSV (RFC 4180). Null is an empty cell.
fn csv_line(entry: &AuditEntryJson) -> serde_json::Result<String> {
    let record = serde_json::to_value(entry)?;
    let cells: Vec<String> = COLUMNS.iter().map(|name| cell(record.get(*name))).collect();
    Ok(cells.join(",") + "\r\n")
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => quoted(&harmless(text)),
        Some(other) => quoted(&other.to_string()),
    }
}

/// Callers choose paths, methods and request ids. A spreadsheet would run a cell that begins like a formula, so it gets
/// an apostrophe in front, as OWASP advises against CSV injection.
fn harmless(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_header_names_the_columns() {
        assert_eq!(CSV_HEADER, COLUMNS.join(",") + "\r\n");
    }

    #[test]
    fn cells_are_quoted_and_run_nothing() {
        for (value, expected) in [
            (json!(null), ""),
            (json!(200), "200"),
            (json!(false), "false"),
            (json!("/api/v1/contacts"), "/api/v1/contacts"),
            (json!("a,b"), "\"a,b\""),
            (json!("say \"x\""), "\"say \"\"x\"\"\""),
            (json!("two\r\nlines"), "\"two\r\nlines\""),
            (json!("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0"),
            (json!("+1"), "'+1"),
            (json!("-1"), "'-1"),
            (json!("@SUM(A1,A2)"), "\"'@SUM(A1,A2)\""),
            (json!("\t=1"), "'\t=1"),
            (json!("\r=1"), "\"'\r=1\""),
        ] {
            assert_eq!(cell(Some(&value)), expected, "{value}");
        }
    }
}
