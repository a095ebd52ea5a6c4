//! `omf audit tail`.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write, stdout};
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use omniflow_api_types::audit::AuditEntryJson;

use super::{COLUMNS, Filter};
use crate::client::{Call, Client, Method, Rejection};
use crate::output::{Output, escape_json};

/// Pause before reconnecting to the control plane.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf audit tail --key ci\n  \
    omf audit tail --decision denied --json | jq .path\n\n\
    Records are numbered. After a restart of the control plane, the command resumes without skipping a record.")]
pub(super) struct Tail {
    /// Exit after this many records.
    #[arg(long)]
    count: Option<u64>,
    /// Start after the record with this ID instead of now.
    #[arg(long, value_name = "RECORD")]
    after: Option<u64>,
    #[command(flatten)]
    filter: Filter,
}

/// Position in the stream, and the number of records left to print.
struct Progress {
    last: Option<String>,
    left: Option<u64>,
}

#[expect(clippy::disallowed_methods, reason = "commands are synchronous")]
pub(super) fn run(args: Tail, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = args.filter.query();
    let mut progress = Progress { last: args.after.map(|number| number.to_string()), left: args.count };
    let mut has_connected = false;
    while progress.left != Some(0) {
        let mut call = Call::new(Method::GET, "/v1/audit/stream").query(&query);
        if let Some(last) = &progress.last {
            call = call.header("last-event-id", last.clone());
        }
        match client.stream(call, "text/event-stream") {
            Ok(body) => {
                has_connected = true;
                if !progress.follow(body, output)? {
                    return Ok(());
                }
            }
            // A rejection would be repeated, and an address that never responded is probably wrong.
            Err(error) if error.is::<Rejection>() || !has_connected => return Err(error),
            Err(_) => {}
        }
        if progress.left != Some(0) {
            // Reconnecting without a pause would flood a control plane that is starting.
            sleep(PAUSE);
        }
    }
    Ok(())
}

// === impl Progress ===

impl Progress {
    /// Prints records until the stream ends. Returns false if standard output is closed.
    fn follow(&mut self, body: impl Read, output: Output) -> anyhow::Result<bool> {
        let mut id = None;
        for line in BufReader::new(body).lines() {
            // The connection was lost: the next one continues from here.
            let Ok(line) = line else { return Ok(true) };
            if let Some(number) = line.strip_prefix("id: ") {
                id = Some(number.to_owned());
            } else if line.is_empty() {
                self.last = id.take().or(self.last.take());
            } else if let Some(data) = line.strip_prefix("data: ") {
                if !print(data, output)? {
                    return Ok(false);
                }
                self.last = id.clone().or(self.last.take());
                self.left = self.left.map(|left| left.saturating_sub(1));
                if self.left == Some(0) {
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }
}

/// Prints a record on its own line. Returns false if standard output is closed.
fn print(data: &str, output: Output) -> anyhow::Result<bool> {
    match writeln!(stdout(), "{}", line(data, output)?) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}

/// Formats a record as a line.
fn line(data: &str, output: Output) -> anyhow::Result<String> {
    Ok(if output.json {
        escape_json(data)
    } else {
        let record: AuditEntryJson = serde_json::from_str(data)?;
        COLUMNS.iter().map(|(_, read)| read(&record)).collect::<Vec<_>>().join("  ")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_record_stays_on_its_line_and_steers_nothing() {
        let hostile = "/a\u{9b}31m\u{202e}b\u{2028}c";
        let record = json!({
            "id": "1", "time": "2027-01-15T08:00:00.001Z", "key_id": null, "key_name": null, "version_id": null,
            "environment": null, "method": "GET", "endpoint": null, "path": hostile, "status": 401, "grpc_status": null,
            "interruption": null, "decision": "denied",
            "reason": "missing_credentials", "latency_us": 1, "source_ip": null, "request_id": "", "request_bytes": 0,
            "response_bytes": 0, "gateway": "edge", "argument_hash": null, "argument_hash_partial": false,
            "has_payload": false, "aggregated_calls": null, "first_time": null,
        });
        for json in [true, false] {
            let line = line(&record.to_string(), Output { json }).unwrap();
            let steers = ['\u{9b}', '\u{202e}', '\u{2028}', '\n'];
            assert!(line.contains("31m") && !line.contains(steers), "{line:?}");
            if json {
                assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), record, "same content");
            }
        }
    }
}
