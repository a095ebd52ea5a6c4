//! `omf key leaked`.

use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{ArgGroup, Args};
use omniflow_api_types::leak::{
    AddressUseJson, EndpointUseJson, KeyUseJson, LeakReportJson, LeakedKeyJson, RefusalCount, ReportLeak,
};
use omniflow_api_types::values::{Digest, KeyStatus};
use serde_json::Value;
use zeroize::Zeroizing;

use super::create::IdempotencyArgs;
use crate::client::{Call, Client, Method};
use crate::input;
use crate::output::{
    Answer, Column, Output, cell, cell_or_none, check_enforced, counted, enforcement_table, slowest, table,
};
use crate::secret_output::{SecretArgs, SecretOutput, secret_location, without_secret};

/// Arguments of `omf key leaked`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("source").args(["digest", "scan"])),
    group(ArgGroup::new("replacement").arg("output_file").requires("replace")),
    after_help = "Examples:\n  \
        pbpaste | omf key leaked\n  \
        omf key leaked --scan access.log --dry-run\n  \
        git log -p | head -c 900000 | omf key leaked --scan -\n  \
        printf %s \"$KEY\" | omf key leaked --replace --output-file new-key\n  \
        omf key leaked --scan access.log --replace --output-file new-keys\n  \
        omf key leaked --digest $(printf %s \"$KEY\" | sha256sum | cut -c-64) --version-only\n\n\
        The exit code is 1 if no key matches the secret, and 3 if some gateways do not enforce the revocation in time.\n\
        The input of --scan may be up to 1 MiB and need not contain a key.\n\n\
        With --scan and --replace, each new secret is on a line of its own, after the name of its key and a tab."
)]
pub struct Leaked {
    /// SHA-256 of the secret, in 64 hexadecimal digits.
    ///
    /// Without this option or --scan, the secret is read from standard input, and only its SHA-256 leaves this machine.
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
    /// File to search for secrets, or - for standard input.
    ///
    /// The text is sent to the control plane, which does not store it.
    #[arg(long, value_name = "FILE")]
    scan: Option<String>,
    /// Revoke only the leaked versions, not the whole key.
    #[arg(long)]
    version_only: bool,
    /// Create a replacement key with the same settings and a new name.
    ///
    /// Only new secrets are printed to standard output, unless --output-file is set.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    idempotency: IdempotencyArgs,
    /// Only show which keys leaked and how they were used.
    #[arg(long, conflicts_with_all = ["replace", "version_only"])]
    dry_run: bool,
    /// Wait for all gateways to enforce the revocation, up to 30s.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    wait: String,
}

const ADDRESS_COLUMNS: &[Column<AddressUseJson>] = &[
    ("ADDRESS", |used| cell(used.address)),
    ("NEW", |used| if used.new { "new".to_owned() } else { String::new() }),
    ("CALLS", |used| cell(used.calls)),
    ("REFUSED", |used| cell(used.refused)),
    ("FIRST", |used| cell(used.first_call_at)),
    ("LAST", |used| cell(used.last_call_at)),
];
const ENDPOINT_COLUMNS: &[Column<EndpointUseJson>] = &[
    ("METHOD", |used| cell(&used.method)),
    ("ENDPOINT", |used| cell_or_none(used.endpoint.as_ref())),
    ("CALLS", |used| cell(used.calls)),
    ("REFUSED", |used| cell(used.refused)),
    ("LAST", |used| cell(used.last_call_at)),
];
const REFUSAL_COLUMNS: &[Column<RefusalCount>] =
    &[("REASON", |refusal| cell(&refusal.reason)), ("CALLS", |refusal| cell(refusal.calls))];

pub(super) fn run(args: Leaked, client: &Client, output: Output) -> anyhow::Result<()> {
    let place = if args.replace { Some(args.secret.open(output)?) } else { None };
    let (text, digest) = match (&args.scan, args.digest) {
        (Some(file), _) => (Some(text_of(input::bytes(file)?)), None),
        (None, Some(digest)) => (None, Some(digest)),
        (None, None) => (None, Some(Digest::of(input::secret("-")?.as_bytes()).to_hex())),
    };
    let request = ReportLeak {
        secret: None,
        digest,
        text,
        revoke: !args.dry_run,
        version_only: args.version_only,
        replacement: args.replace,
    };
    let call = Call::new(Method::POST, "/v1/leaks").query(&[("wait", Some(args.wait))]);
    let answer: Answer<LeakReportJson> = client.send(args.idempotency.apply(call.json(&request)?))?;
    let report = &answer.body;
    let is_scan = args.scan.is_some();
    if report.keys.is_empty() && !is_scan {
        if output.json {
            output.print_json(&answer.json)?;
        }
        let outcome = if args.dry_run { "" } else { ", so nothing was revoked" };
        bail!(
            "no key matches this secret{outcome}. Check that it is complete and belongs to this control plane"
        );
    }
    let text = describe(report, args.dry_run);
    match place {
        None => output.print_change(&answer, report.enforcement.as_ref(), |_| text)?,
        Some(place) => deliver(place, &answer, &text, (is_scan, output))?,
    }
    Ok(check_enforced(report.enforcement.as_ref())?)
}

/// The content of a file as a text. One that is no text, such as a compressed log, is sent in Base64, which the search decodes.
fn text_of(content: Vec<u8>) -> String {
    String::from_utf8(content).unwrap_or_else(|error| STANDARD.encode(error.as_bytes()))
}

/// Writes the secrets of replacement keys, with their names if `is_list`. If they go to standard output, the report goes to
/// standard error.
fn deliver(
    place: SecretOutput,
    answer: &Answer<LeakReportJson>,
    text: &str,
    (is_list, output): (bool, Output),
) -> anyhow::Result<()> {
    let replacements = answer.body.keys.iter().filter_map(|leaked| leaked.replacement.as_ref());
    let secrets: Vec<(String, &str)> = replacements
        .filter_map(|created| Some((cell(&created.key.name), created.secret.as_deref()?)))
        .collect();
    let in_file = matches!(place, SecretOutput::File(_));
    let enforcement = answer.body.enforcement.as_ref();
    if output.json && !in_file {
        return output.print_change(answer, enforcement, |_| String::new());
    }
    let alone = Output { json: false };
    let file = match content(&secrets, is_list) {
        Some(content) => place.deliver(&content, &answer.json, alone)?,
        None => None,
    };
    match (output.json, in_file) {
        (true, _) => output.print_json(&without_secrets(answer.json.clone()))?,
        (false, true) => alone.print_text(text)?,
        (false, false) => eprintln!("{}", text.trim_end()),
    }
    for (name, _) in secrets {
        eprintln!("Created key {name}. {}", secret_location(file.as_deref()));
    }
    Ok(())
}

/// What is written of the secrets of these keys: a line for each with its name, or only the secret if there can be only one.
fn content(secrets: &[(String, &str)], is_list: bool) -> Option<Zeroizing<String>> {
    let lines = || secrets.iter().map(|(name, secret)| format!("{name}\t{secret}\n"));
    Some(Zeroizing::new(match secrets {
        [] => return None,
        [(_, secret)] if !is_list => (*secret).to_owned(),
        _ => lines().collect(),
    }))
}

/// Removes the secrets of replacement keys from the JSON of a report.
fn without_secrets(mut report: Value) -> Value {
    for key in report.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(replacement) = key.get_mut("replacement") {
            *replacement = without_secret(replacement.take());
        }
    }
    report
}

/// Formats the leaked keys, the outcome and the usage.
fn describe(report: &LeakReportJson, dry_run: bool) -> String {
    let mut text = String::new();
    for leaked in &report.keys {
        text.push_str(&describe_outcome(leaked, report, dry_run));
        text.push_str(&describe_usage(leaked.usage.as_ref()));
        text.push('\n');
    }
    for (what, number) in [
        ("Unknown keys in the text", report.unknown),
        ("Truncated or mistyped keys in the text", report.malformed),
    ] {
        if number > 0 {
            text.push_str(&format!("{what}: {number}.\n"));
        }
    }
    if report.keys.is_empty() {
        text.push_str("No key of this installation was found.\n");
    }
    if !report.complete {
        text.push_str(
            "The text was not searched completely, because decoding its encoded parts exceeds the limit. \
             Send it in pieces.\n",
        );
    }
    let incomplete = report.enforcement.as_ref().filter(|enforcement| !enforcement.complete);
    text + &incomplete.map(enforcement_table).unwrap_or_default()
}

/// Formats which key leaked and the outcome.
fn describe_outcome(leaked: &LeakedKeyJson, report: &LeakReportJson, dry_run: bool) -> String {
    let versions: Vec<String> =
        leaked.versions.iter().map(|version| format!("version {} ({})", version.id, version.was)).collect();
    let mut text = format!("{} leaked: {}.", cell(&leaked.key.name), versions.join(", "));
    text.push_str(match leaked.revoked {
        _ if dry_run => " Nothing was changed.",
        true if leaked.key.status == KeyStatus::Revoked => " It is revoked",
        true => " The leaked versions are revoked; the others stay valid",
        false => " It was already revoked",
    });
    if !dry_run {
        text.push_str(&refused_by(report).map_or(".".to_owned(), |refused| format!("; {refused}.")));
    }
    if let Some(created) = &leaked.replacement {
        let name = cell(&created.key.name);
        text.push_str(&format!(" {name} replaces it, with the same settings."));
    }
    text + "\n"
}

/// The number of gateways that refuse it, and the time until all did.
fn refused_by(report: &LeakReportJson) -> Option<String> {
    let enforcement = report.enforcement.as_ref()?;
    let enforcing = enforcement.gateways.iter().filter(|gateway| gateway.enforced).count();
    Some(match enforcement.gateways.len() {
        0 => "no gateways are known".to_owned(),
        all => format!("refused by {enforcing} of {}{}", counted(all, "gateway"), slowest(enforcement)),
    })
}

fn describe_usage(usage: Option<&KeyUseJson>) -> String {
    let Some(used) = usage else {
        return "Usage is unknown: the control plane could not read the audit log.\n".to_owned();
    };
    let mut text = format!("Since {}: {}, {} refused", used.from, counted(used.calls, "call"), used.refused);
    if used.calls > 0 {
        text.push_str(&format!(
            "; last call at {}, last allowed call at {}",
            cell_or_none(used.last_call_at),
            cell_or_none(used.last_allowed_at)
        ));
    }
    text.push_str(".\n");
    if !used.complete {
        text.push_str("Only the newest calls are counted.\n");
    }
    text.push_str(&format!(
        "New IP addresses in the last 24 hours: {}. Calls after revocation: {}.\n",
        used.new_addresses, used.calls_after_revocation
    ));
    for anomaly in &used.anomalies {
        text.push_str(&format!("  {}: {}\n", cell(&anomaly.kind), cell(&anomaly.summary)));
    }
    text.push_str(&table_of(&used.addresses, ADDRESS_COLUMNS, used.more_addresses));
    text.push_str(&table_of(&used.endpoints, ENDPOINT_COLUMNS, used.more_endpoints));
    text.push_str(&table_of(&used.refusals, REFUSAL_COLUMNS, 0));
    text
}

/// A table after a blank line, and the number of omitted rows. Empty without items.
fn table_of<T>(items: &[T], columns: &[Column<T>], more: usize) -> String {
    let table = if items.is_empty() { String::new() } else { format!("\n{}", table(items, columns)) };
    if more == 0 { table } else { format!("{table} and {more} more\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::key;

    fn answer() -> Value {
        let counted = json!({"calls": 3, "refused": 1, "first_call_at": "2027-01-15T07:00:00.000Z",
            "last_call_at": "2027-01-15T08:00:00.000Z"});
        let with = |fields: Value| {
            let mut all = counted.clone();
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            all
        };
        let gateway = |id: &str, ms: u64| {
            json!({"id": id, "state": "in_step", "enforced": true, "ms": ms, "workers": 1, "enforced_workers": 1,
                "last_seen_at": "2027-01-15T08:00:00.000Z"})
        };
        let evidence = json!({"observed": 90, "expected": 3.0, "bound": 30, "history_days": 28, "networks": [],
            "status": null, "version_id": null, "reason": null});
        json!({
            "keys": [{
                "key": key(json!({"status": "revoked"})), "versions": [{"id": 1, "was": "active"}], "revoked": true,
                "usage": {
                    "from": "2026-12-16T08:00:00.000Z", "to": "2027-01-15T08:00:00.000Z", "complete": true,
                    "calls": 3, "refused": 1,
                    "last_call_at": "2027-01-15T08:00:00.000Z", "last_allowed_at": "2027-01-15T07:30:00.000Z",
                    "new_addresses": 1, "calls_after_revocation": 1, "more_addresses": 2, "more_endpoints": 0,
                    "addresses": [with(json!({"address": "203.0.113.7", "new": true}))],
                    "endpoints": [with(json!({"method": "GET", "endpoint": null}))],
                    "refusals": [{"reason": "key_revoked", "calls": 1}],
                    "anomalies": [{"id": "1", "kind": "volume_spike", "key_id": "0190163d-8694-739b-aea5-966c26f8ad91",
                        "key_name": "ci", "first_seen": "2027-01-15T07:00:00.000Z",
                        "last_seen": "2027-01-15T08:00:00.000Z", "summary": "Far more calls than ever.",
                        "evidence": evidence, "query": "/v1/audit"}],
                },
                "replacement": {"key": key(json!({"name": "ci-2"})), "secret": "s3cret"},
            }],
            "unknown": 0, "malformed": 2, "complete": true,
            "enforcement": {"complete": true, "version": 7, "gateways": [gateway("a", 2), gateway("b", 1)]},
        })
    }

    fn report(answer: &Value) -> LeakReportJson {
        serde_json::from_value(answer.clone()).unwrap()
    }

    #[test]
    fn secrets_of_several_keys_have_names() {
        let content =
            |secrets: &[(String, &str)], is_list| content(secrets, is_list).map(|it| it.to_string());
        let (a, b) = (("a b".to_owned(), "s1"), ("c".to_owned(), "s2"));
        assert_eq!(content(&[], true), None);
        assert_eq!(content(std::slice::from_ref(&a), false).unwrap(), "s1");
        assert_eq!(content(std::slice::from_ref(&a), true).unwrap(), "a b\ts1\n");
        assert_eq!(content(&[a, b], true).unwrap(), "a b\ts1\nc\ts2\n");
    }

    #[test]
    fn a_leak_report_starts_with_the_outcome() {
        let mut answer = answer();
        let text = describe(&report(&answer), false);
        let first = "ci leaked: version 1 (active). It is revoked; refused by 2 of 2 gateways after 2 ms. ci-2 replaces it";
        assert!(text.starts_with(first), "{text}");
        let mut of_one = answer.clone();
        of_one["keys"][0]["usage"]["calls"] = json!(1);
        of_one["enforcement"]["gateways"].as_array_mut().unwrap().pop();
        let text_of_one = describe(&report(&of_one), false);
        assert!(
            text_of_one.contains("of 1 gateway after") && text_of_one.contains(": 1 call, "),
            "{text_of_one}"
        );
        for expected in [
            "3 calls, 1 refused",
            "203.0.113.7  new",
            "key_revoked",
            "  volume_spike: Far more calls than ever.\n",
            "and 2 more",
            "mistyped keys in the text: 2.",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("s3cret"));
        assert!(!without_secrets(answer.clone()).to_string().contains("s3cret"));
        answer["enforcement"] = Value::Null;
        answer["keys"][0]["revoked"] = json!(false);
        answer["keys"][0]["usage"] = Value::Null;
        let text = describe(&report(&answer), true);
        assert!(text.contains("Nothing was changed.") && text.contains("is unknown"), "{text}");
        assert!(describe(&report(&answer), false).contains("It was already revoked."));
        let none = json!({"keys": [], "unknown": 1, "malformed": 0, "complete": false});
        let text = describe(&report(&none), false);
        assert!(
            text.contains("Unknown keys in the text: 1.") && text.contains("not searched completely"),
            "{text}"
        );
    }
}
