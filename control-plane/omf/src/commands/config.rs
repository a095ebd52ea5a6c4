//! `omf config`: checks a configuration without starting the control plane.

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
    /// Check the settings of `omf serve`, and print each value and its source.
    ///
    /// Accepts the flags of `omf serve`, and reads the same file and environment variables. Also checks that the files and
    /// certificates named in the settings are usable and that the data directory is writable, by creating and removing a
    /// file in it. Reports all problems at once. The exit code is 1 if there is a problem, and 0 if there are only warnings.
    #[command(after_help = "Examples:\n  \
        omf config check --config /etc/omniflow/omf.toml\n  \
        omf config check --json --tls-certificate tls.crt --tls-key tls.key")]
    Check {
        #[command(flatten)]
        flags: Flags,
    },
}

/// The result of a check.
#[derive(Serialize)]
struct Report {
    settings: Vec<SettingReport>,
    certificate: Option<CertificateReport>,
    warnings: Vec<String>,
    problems: Vec<String>,
}

/// A setting, its value and its source.
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
    ("SOURCE", |setting| cell(&setting.from)),
];

pub(super) fn run(command: &Command, output: Output) -> anyhow::Result<()> {
    let Command::Check { flags } = command;
    let mut resolution = serve::read(flags);
    let certificate = probe(&mut resolution, Clock::system().now());
    output.print(&Answer::new(report(&resolution, certificate))?, for_people)?;
    if resolution.problems.is_empty() { Ok(()) } else { Err(Problems(resolution.problems).into()) }
}

fn report(resolution: &Resolution, certificate: Option<Certificate>) -> Report {
    // Without the file, only values that take precedence over it are certain.
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
        [] => "The effective settings are unknown because the file cannot be read.\n".to_owned(),
        settings => table(settings, COLUMNS),
    };
    if let Some(certificate) = &report.certificate {
        text.push_str(&format!("\nThe certificate is valid until {}.\n", certificate.not_after));
    }
    for warning in &report.warnings {
        text.push_str(&format!("\nWarning: {warning}\n"));
    }
    if report.problems.is_empty() {
        text.push_str("\nNo problems found.\n");
    }
    text
}
