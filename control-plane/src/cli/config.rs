//! `omf config`: looks at a configuration without starting with it.

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{Column, Output, field, table};
use super::serve;
use crate::configuration::{Flags, Given, Origin, Problem, Problems, Reading, probe};
use omniflow_domain::clock::Clock;
use omniflow_domain::time::format_time;
use omniflow_net::tls::Certificate;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check what `omf serve` would start with, and print what is in force and where it comes from.
    ///
    /// Takes the flags of `omf serve`, and reads the same file and environment. It also looks whether the data directory
    /// can be written to, for which it makes a file there and removes it, and whether certificate and key can be used.
    /// All problems are told, not only the first; then the exit code is 1. Warnings leave it at 0.
    #[command(after_help = "Examples:\n  \
        omf config check --config /etc/omniflow/omf.toml\n  \
        omf config check --json --tls-certificate tls.crt --tls-key tls.key")]
    Check {
        #[command(flatten)]
        flags: Flags,
    },
}

const COLUMNS: [Column; 3] =
    [("SETTING", |v| field(v, "setting")), ("VALUE", |v| field(v, "value")), ("FROM", |v| field(v, "from"))];

pub(super) fn run(command: &Command, output: Output) -> anyhow::Result<()> {
    let Command::Check { flags } = command;
    let mut reading = serve::read(flags);
    let certificate = probe(&mut reading, Clock::system().now());
    output.print(&report(&reading, certificate), for_people)?;
    if reading.problems.is_empty() { Ok(()) } else { Err(Problems(reading.problems).into()) }
}

fn report(reading: &Reading, certificate: Option<Certificate>) -> Value {
    // Without the file, nothing but what stands above it is known.
    let given: &[Given] = if reading.is_file_unread { &[] } else { &reading.given };
    let settings: Vec<Value> = given.iter().map(|given| setting(reading, given)).collect();
    let certificate = certificate.map(|certificate| {
        json!({
            "not_before": format_time(certificate.not_before),
            "not_after": format_time(certificate.not_after),
        })
    });
    let texts = |problems: &[Problem]| problems.iter().map(|Problem(text)| text.clone()).collect::<Vec<_>>();
    json!({
        "settings": settings,
        "certificate": certificate,
        "warnings": texts(&reading.warnings),
        "problems": texts(&reading.problems),
    })
}

fn setting(reading: &Reading, given: &Given) -> Value {
    let (source, file, line) = match &given.origin {
        Origin::Flag => ("flag", None, None),
        Origin::Environment => ("environment", None, None),
        Origin::File { path, line } => ("file", Some(path.display().to_string()), Some(line)),
        Origin::Default => ("default", None, None),
    };
    json!({
        "setting": given.setting.name(),
        "value": reading.text(given),
        "source": source,
        "file": file,
        "line": line,
        "from": given.source(),
    })
}

fn for_people(report: &Value) -> String {
    let list = |name: &str| report.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut text = match list("settings") {
        [] => "What is in force is not known, because the file cannot be read.\n".to_owned(),
        settings => table(settings, &COLUMNS),
    };
    if let Some(end) = report.pointer("/certificate/not_after").and_then(Value::as_str) {
        text.push_str(&format!("\nThe certificate is valid until {end}.\n"));
    }
    for warning in list("warnings").iter().filter_map(Value::as_str) {
        text.push_str(&format!("\nWarning: {warning}\n"));
    }
    if list("problems").is_empty() {
        text.push_str("\nNo problem was found.\n");
    }
    text
}
