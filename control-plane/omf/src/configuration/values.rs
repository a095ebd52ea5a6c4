//! Parsing and validation of values.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use omniflow_policy::key::KeyPrefix;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{Configuration, Origin, Problem, ResolvedSetting, Setting};
use omniflow_net::tls::TlsFiles;
use omniflow_outbound::http_sink::parse_url;
use omniflow_outbound::otlp::{OtlpSettings, parse_endpoint};
use omniflow_outbound::webhook::WebhookSettings;

const GATEWAY_LEASE: RangeInclusive<u64> = 1..=86_400;
const ROTATION_DAYS: RangeInclusive<u64> = 0..=36_500;
const AUDIT_DAYS: RangeInclusive<u64> = 1..=3_650;
const AUDIT_MAX_MIB: RangeInclusive<u64> = 0..=1 << 30;
const RESERVE_MIB: RangeInclusive<u64> = 0..=1 << 20;
/// Default retention of payloads in days, limited by that of audit records.
const PAYLOAD_DAYS: u64 = 7;

/// Parses the configuration. Errors are added to `problems`; `None` if a required value is invalid.
pub(super) fn configuration(
    resolved: &[ResolvedSetting],
    problems: &mut Vec<Problem>,
) -> Option<Configuration> {
    let mut values = Values { resolved, problems };
    let listen = values.read(Setting::Listen, text(address));
    let data_dir = values.read(Setting::DataDir, path);
    let admin_token_file = values.read(Setting::AdminTokenFile, path);
    let key_prefix = values.read(Setting::KeyPrefix, text(key_prefix));
    let gateway_lease =
        values.read(Setting::GatewayLease, text(|text| number(text, GATEWAY_LEASE, "seconds")));
    let rotation_days = values.read(Setting::RotationDays, text(|text| number(text, ROTATION_DAYS, "days")));
    let audit_days = values.read(Setting::AuditDays, text(|text| number(text, AUDIT_DAYS, "days")));
    // Payloads must not outlive their records.
    let longest = audit_days.unwrap_or(*AUDIT_DAYS.end());
    let payload_days = if values.is_default(Setting::PayloadDays) {
        Some(longest.min(PAYLOAD_DAYS))
    } else {
        values.read(Setting::PayloadDays, text(|text| payload_days(text, longest)))
    };
    let audit_max_mib = values.read(Setting::AuditMaxMib, text(|text| number(text, AUDIT_MAX_MIB, "MiB")));
    let reserve_mib = values.read(Setting::ReserveMib, text(|text| number(text, RESERVE_MIB, "MiB")));
    let payload_key_file = values.read(Setting::PayloadKeyFile, path);
    let webhook_url = values.read(Setting::WebhookUrl, text(|text| parse_url(text).map_err(str::to_owned)));
    let webhook_secret_file = values.read(Setting::WebhookSecretFile, path);
    let gateway_url = values.read(Setting::GatewayUrl, text(gateway_url));
    let otlp_endpoint =
        values.read(Setting::OtlpEndpoint, text(|text| parse_endpoint(text).map_err(str::to_owned)));
    let headers_file = values.read(Setting::OtlpHeadersFile, path);
    let ca_file = values.read(Setting::OtlpCaFile, path);
    let tls_certificate = values.read(Setting::TlsCertificate, path);
    let tls_key = values.read(Setting::TlsKey, path);
    let log = values.read(Setting::Log, text(levels));
    values.go_together(Setting::TlsCertificate, Setting::TlsKey, "for TLS, or neither for plain HTTP");
    let signed = "to send anomalies, or neither";
    values.go_together(Setting::WebhookUrl, Setting::WebhookSecretFile, signed);
    for file in [Setting::OtlpHeadersFile, Setting::OtlpCaFile] {
        values.needs(file, Setting::OtlpEndpoint, "to export audit records, or neither");
    }
    Some(Configuration {
        listen: listen?,
        data_dir: data_dir?,
        admin_token_file,
        key_prefix: key_prefix?,
        gateway_lease: gateway_lease?,
        rotation_days: rotation_days?,
        audit_days: audit_days?,
        payload_days: payload_days?,
        audit_max_mib: audit_max_mib?,
        reserve_mib: reserve_mib?,
        payload_key_file,
        webhook: webhook_url
            .zip(webhook_secret_file)
            .map(|(url, secret_file)| WebhookSettings { url, secret_file }),
        gateway_url,
        otlp: otlp_endpoint.map(|endpoint| OtlpSettings { endpoint, headers_file, ca_file }),
        tls: tls_certificate.zip(tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
        log: log?,
    })
}

struct Values<'a> {
    resolved: &'a [ResolvedSetting],
    problems: &'a mut Vec<Problem>,
}

// === impl Values ===

impl Values<'_> {
    /// Parses the value of a setting. `None` if there is none, or if it is invalid, which is reported.
    fn read<T>(&mut self, setting: Setting, read: impl Fn(&OsStr) -> Result<T, String>) -> Option<T> {
        let resolved = self.resolved.iter().find(|resolved| resolved.setting == setting)?;
        match read(resolved.value.as_deref()?) {
            Ok(value) => Some(value),
            Err(what) => {
                self.problems.push(resolved.problem(&what));
                None
            }
        }
    }

    /// Whether the setting has its default value.
    fn is_default(&self, setting: Setting) -> bool {
        self.resolved.iter().any(|resolved| resolved.setting == setting && resolved.origin == Origin::Default)
    }

    /// Reports a problem if only one of two settings has a value. `purpose` explains why both or neither are needed.
    fn go_together(&mut self, one: Setting, other: Setting, purpose: &str) {
        self.needs(one, other, purpose);
        self.needs(other, one, purpose);
    }

    /// Reports a problem if one setting has a value and the other one, which it requires, does not. `purpose` is as above.
    fn needs(&mut self, one: Setting, other: Setting, purpose: &str) {
        let find = |setting| {
            self.resolved.iter().find(|resolved| resolved.setting == setting && resolved.value.is_some())
        };
        if let (Some(alone), None) = (find(one), find(other)) {
            let what = format!("requires {}; set both {purpose}", other.name());
            self.problems.push(alone.problem(&what));
        }
    }
}

/// Parses a value that must be UTF-8.
fn text<T>(read: impl Fn(&str) -> Result<T, String>) -> impl Fn(&OsStr) -> Result<T, String> {
    move |value| read(value.to_str().ok_or("not UTF-8")?)
}

fn path(value: &OsStr) -> Result<PathBuf, String> {
    if value.is_empty() {
        Err("empty; set a path or remove the setting".to_owned())
    } else {
        Ok(value.into())
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = |_| quoted(text, "not an IP address with a port; use 127.0.0.1:8080 or [::1]:8080");
    text.parse().map_err(wrong)
}

fn key_prefix(text: &str) -> Result<KeyPrefix, String> {
    KeyPrefix::parse(text).map_err(|error| quoted(text, error))
}

/// The characters are restricted because users copy the URL into a shell.
fn gateway_url(text: &str) -> Result<String, String> {
    let address = text.trim_end_matches('/');
    let host = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]".contains(&byte);
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') && host.bytes().all(plain) => {
            Ok(address.to_owned())
        }
        _ => Err(quoted(text, "not a URL; use https://host or https://host:port, with a path if needed")),
    }
}

fn number(text: &str, range: RangeInclusive<u64>, unit: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    let right = format!("must be a number of {unit} from {} to {}", range.start(), range.end());
    number.ok_or_else(|| quoted(text, right))
}

fn payload_days(text: &str, audit_days: u64) -> Result<u64, String> {
    number(text, 1..=audit_days, "days").map_err(|wrong| format!("{wrong}, the value of audit_days"))
}

/// A misspelled level would be parsed as a module name, and nothing else would be logged.
fn levels(text: &str) -> Result<Targets, String> {
    let is_level = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        LevelFilter::from_str(level).is_ok() && !level.is_empty()
    };
    let targets = Targets::from_str(text).ok().filter(|_| text.split(',').all(is_level));
    let right =
        "not a log level; use off, error, warn, info, debug, trace or MODULE=LEVEL, separated by commas";
    targets.ok_or_else(|| quoted(text, right))
}

fn quoted(text: &str, what: impl fmt::Display) -> String {
    format!("{text:?}: {what}")
}
