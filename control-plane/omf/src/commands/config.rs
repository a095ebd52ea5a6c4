//! `omf config`: looks at a configuration without starting with it.

use clap::Subcommand;
use omniflow_cli::{Answer, Column, Output, cell, table};
use serde::Serialize;

use super::serve;
use crate::configuration::{Flags, Origin, Problem, Problems, Resolution, ResolvedSetting, probe};
use omniflow_api_types::time::Time;
use omniflow_domain::clock::Clock;
use omniflow_net::tls::Certificate;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check what `omf serve` would start with, and print the effective settings and their sources.
    ///
    /// Takes the flags of `omf serve`, and reads the same file and environment. It also looks whether the data directory
    /// can be written to, for which it makes a file there and removes it, and whether certificate and key can be used.
    /// All problems are reported, not only the first; then the exit code is 1. Warnings leave it at 0.
    #[command(after_help = "Examples:\n  \
        omf config check --config /etc/omniflow/omf.toml\n  \
        omf config check --json --tls-certificate tls.crt --tls-key tls.key")]
    Check {
        #[command(flatten)]
        flags: Flags,
    },
}

/// What `omf serve` would start with.
#[derive(Serialize)]
struct Report {
    settings: Vec<SettingReport>,
    certificate: Option<CertificateReport>,
    warnings: Vec<String>,
    problems: Vec<String>,
}

/// A setting, and where its value comes from.
#[derive(Serialize)]
struct SettingReport {
    setting: &'static str,
    value: Option<String>,
    source: &'static str,
    file: Option<String>,
    line: Option<usize>,
    from: String,
}

/// When a certificate is valid.
#[derive(Serialize)]
struct CertificateReport {
    not_before: Time,
    not_after: Time,
}

const COLUMNS: &[Column<SettingReport>] = &[
    ("SETTING", |setting| cell(setting.setting)),
    ("VALUE", |setting| setting.value.as_ref().map_or_else(|| "-".to_owned(), cell)),
    ("FROM", |setting| cell(&setting.from)),
];

pub(super) fn run(command: &Command, output: Output) -> anyhow::Result<()> {
    let Command::Check { flags } = command;
    let mut resolution = serve::read(flags);
    let certificate = probe(&mut resolution, Clock::system().now());
    output.print(&Answer::new(report(&resolution, certificate))?, for_people)?;
    if resolution.problems.is_empty() { Ok(()) } else { Err(Problems(resolution.problems).into()) }
}

fn report(resolution: &Resolution, certificate: Option<Certificate>) -> Report {
    // Without the file, only what takes precedence over it is certain.
    let resolved: &[ResolvedSetting] = if resolution.is_file_unread { &[] } else { &resolution.resolved };
    let texts = |problems: &[Problem]| problems.iter().map(|Problem(text)| text.clone()).collect();
    Report {
        settings: resolved.iter().map(|resolved| setting(resolution, resolved)).collect(),
        certificate: certificate.map(|certificate| CertificateReport {
            not_before: Time(certificate.not_before),
            not_after: Time(certificate.not_after),
        }),
        warnings: texts(&resolution.warnings),
        problems: texts(&resolution.problems),
    }
}

fn setting(resolution: &Resolution, resolved: &ResolvedSetting) -> SettingReport {
    let (source, file, line) = match &resolved.origin {
        Origin::Flag => ("flag", None, None),
        Origin::Environment => ("environment", None, None),
        Origin::File { path, line } => ("file", Some(path.display().to_string()), Some(*line)),
        Origin::Default => ("default", None, None),
    };
    let value = resolution.text(resolved);
    SettingReport { setting: resolved.setting.name(), value, source, file, line, from: resolved.source() }
}

fn for_people(report: &Report) -> String {
    let mut text = match report.settings.as_slice() {
        [] => "The effective settings are unknown, because the file cannot be read.\n".to_owned(),
        settings => table(settings, COLUMNS),
    };
    if let Some(certificate) = &report.certificate {
        text.push_str(&format!("\nThe certificate is valid until {}.\n", certificate.not_after));
    }
    for warning in &report.warnings {
        text.push_str(&format!("\nWarning: {warning}\n"));
    }
    if report.problems.is_empty() {
        text.push_str("\nNo problem was found.\n");
    }
    text
}
