//! `omf key leaked`.

use anyhow::bail;
use clap::{ArgGroup, Args};
use omniflow_policy::digest::Digest;
use serde_json::{Map, Value, json};

use super::create::Attempt;
use crate::cli::client::{Call, Client, Method};
use crate::cli::input;
use crate::cli::output::{Column, Output, check_enforced, enforcement_table, field, table};
use crate::cli::secret_output::{SecretArgs, SecretOutput, whereabouts};

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("source").args(["digest", "scan"])),
    group(ArgGroup::new("successor").arg("output_file").requires("replace")),
    after_help = "Examples:\n  \
        pbpaste | omf key leaked\n  \
        omf key leaked --scan access.log --dry-run\n  \
        git log -p | head -c 900000 | omf key leaked --scan -\n  \
        printf %s \"$KEY\" | omf key leaked --replace --output-file new-key\n  \
        omf key leaked --digest $(printf %s \"$KEY\" | sha256sum | cut -c-64) --version-only\n\n\
        It ends with 1 if the secret opens nothing here, and with 3 if some gateways do not enforce the revocation in time.\n\
        A text has up to 1 MiB and may have no key in it."
)]
pub(in crate::cli) struct Leaked {
    /// The SHA-256 of the secret in 64 hexadecimal digits. Without it and --scan, the secret is read from standard input,
    /// and only its digest leaves this machine.
    #[arg(long)]
    digest: Option<String>,
    /// A text that may have secrets in it, - for standard input. It is sent to the control plane, and not kept there.
    #[arg(long, value_name = "FILE", conflicts_with = "output_file")]
    scan: Option<String>,
    /// Revoke only the versions that leaked, and not the whole key.
    #[arg(long)]
    version_only: bool,
    /// Issue a key with the same settings in its place, under a new name. The secret is all that is printed to standard
    /// output, or lies in --output-file.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    attempt: Attempt,
    /// Change nothing: tell which keys leaked, and how they were used.
    #[arg(long, conflicts_with_all = ["replace", "version_only"])]
    dry_run: bool,
    /// How long to wait until all gateways refuse what was revoked, up to 30s.
    #[arg(long, default_value = "5s")]
    wait: String,
}

const ADDRESS_COLUMNS: &[Column] = &[
    ("ADDRESS", |used| field(used, "address")),
    (
        "NEW",
        |used| if used.get("new") == Some(&Value::Bool(true)) { "new".to_owned() } else { String::new() },
    ),
    ("CALLS", |used| field(used, "calls")),
    ("REFUSED", |used| field(used, "refused")),
    ("FIRST", |used| field(used, "first_call_at")),
    ("LAST", |used| field(used, "last_call_at")),
];
const ENDPOINT_COLUMNS: &[Column] = &[
    ("METHOD", |used| field(used, "method")),
    ("ENDPOINT", |used| field(used, "endpoint")),
    ("CALLS", |used| field(used, "calls")),
    ("REFUSED", |used| field(used, "refused")),
    ("LAST", |used| field(used, "last_call_at")),
];
const REFUSAL_COLUMNS: &[Column] =
    &[("REFUSED FOR", |refusal| field(refusal, "reason")), ("CALLS", |refusal| field(refusal, "calls"))];

pub(super) fn run(args: Leaked, client: &Client, output: Output) -> anyhow::Result<()> {
    let place = if args.replace { Some(args.secret.open(output)?) } else { None };
    let mut request = Map::from_iter([
        ("revoke".to_owned(), json!(!args.dry_run)),
        ("version_only".to_owned(), json!(args.version_only)),
        ("replacement".to_owned(), json!(args.replace)),
    ]);
    let (name, what) = match (&args.scan, args.digest) {
        (Some(file), _) => ("text", String::from_utf8_lossy(&input::bytes(file)?).into_owned()),
        (None, Some(digest)) => ("digest", digest),
        (None, None) => ("digest", Digest::of(input::secret("-")?.as_bytes()).to_hex()),
    };
    request.insert(name.to_owned(), json!(what));
    let call = Call::new(Method::POST, "/v1/leaks").query(&[("wait", Some(args.wait))]);
    let answer = client.send(args.attempt.of(call.json(&Value::Object(request))), "keys")?;
    let told = describe(&answer, args.dry_run);
    match place {
        None => output.print(&answer, |_| told)?,
        Some(place) => deliver(place, &answer, &told, output)?,
    }
    if args.scan.is_none() && keys(&answer).is_empty() {
        bail!(
            "this secret opens nothing here, so nothing was revoked. Is it whole, and of this control plane?"
        );
    }
    check_enforced(&answer)
}

fn keys(answer: &Value) -> &[Value] {
    answer.get("keys").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Hands out the secrets of successors, which leave no room for anything else where they are printed.
fn deliver(place: SecretOutput, answer: &Value, told: &str, output: Output) -> anyhow::Result<()> {
    let secrets = keys(answer).iter().filter_map(|key| {
        let replacement = key.get("replacement").filter(|one| !one.is_null())?;
        Some((field(replacement.get("key")?, "name"), field(replacement, "secret")))
    });
    let secrets: Vec<(String, String)> = secrets.collect();
    let in_file = matches!(place, SecretOutput::File(_));
    if output.json && !in_file {
        return output.print(answer, |_| String::new());
    }
    let alone = Output { json: false };
    let file = match (place, secrets.as_slice()) {
        (SecretOutput::Printed, secrets) => {
            for (_, secret) in secrets {
                alone.text(secret)?;
            }
            None
        }
        (_, []) => None,
        (place, [(_, secret)]) => place.deliver(json!({"secret": secret}), alone)?,
        (_, [..]) => bail!("there are several successors: leave --output-file out"),
    };
    match (output.json, in_file) {
        (true, _) => output.print(&without_secrets(answer.clone()), |_| String::new())?,
        (false, true) => alone.text(told)?,
        (false, false) => eprintln!("{}", told.trim_end()),
    }
    for (name, _) in secrets {
        eprintln!("The secret of {name}: {}", whereabouts(file.as_deref()));
    }
    Ok(())
}

fn without_secrets(mut answer: Value) -> Value {
    for key in answer.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(replacement) = key.get_mut("replacement").and_then(Value::as_object_mut) {
            replacement.remove("secret");
        }
    }
    answer
}

/// What leaked, what was done about it, and how it was used.
fn describe(answer: &Value, dry_run: bool) -> String {
    let mut text = String::new();
    for key in keys(answer) {
        text.push_str(&outcome(key, answer, dry_run));
        text.push_str(&usage(key.get("usage").unwrap_or(&Value::Null)));
        text.push('\n');
    }
    for (what, name) in [
        ("has the form of a key and opens nothing here", "unknown"),
        ("means to be a key and is none: cut short, or mistyped", "malformed"),
    ] {
        match answer.get(name).and_then(Value::as_u64).unwrap_or_default() {
            0 => {}
            number => text.push_str(&format!("{number} found that {what}.\n")),
        }
    }
    if keys(answer).is_empty() {
        text.push_str("No key of this installation was found.\n");
    }
    if check_enforced(answer).is_err() {
        text.push_str(&enforcement_table(answer).unwrap_or_default());
    }
    text
}

/// Which key leaked and what was done, in one line or two.
fn outcome(leaked: &Value, answer: &Value, dry_run: bool) -> String {
    let name = field(leaked.get("key").unwrap_or(&Value::Null), "name");
    let versions = leaked.get("versions").and_then(Value::as_array).into_iter().flatten();
    let versions: Vec<String> =
        versions.map(|one| format!("version {} ({})", field(one, "id"), field(one, "was"))).collect();
    let mut text = format!("{name} leaked: {}.", versions.join(", "));
    let status = field(leaked.get("key").unwrap_or(&Value::Null), "status");
    let revoked = match leaked.get("revoked") {
        _ if dry_run => " Nothing was changed.",
        Some(Value::Bool(true)) if status == "revoked" => " It is revoked",
        Some(Value::Bool(true)) => " What leaked of it is revoked, the rest goes on",
        _ => " It had been revoked before",
    };
    text.push_str(revoked);
    if !dry_run {
        text.push_str(&refused_by(answer).map_or(".".to_owned(), |refused| format!("; {refused}.")));
    }
    if let Some(key) = leaked.pointer("/replacement/key") {
        text.push_str(&format!(" {} goes on in its place, with the same settings.", field(key, "name")));
    }
    text + "\n"
}

/// Who refuses it, and after what time.
fn refused_by(answer: &Value) -> Option<String> {
    let gateways = answer.pointer("/enforcement/gateways")?.as_array()?;
    let enforcing: Vec<&Value> =
        gateways.iter().filter(|gateway| gateway.get("enforced") == Some(&Value::Bool(true))).collect();
    // Not told where it had been revoked before.
    let slowest = enforcing.iter().filter_map(|gateway| gateway.get("ms").and_then(Value::as_u64)).max();
    let after = slowest.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
    Some(match gateways.len() {
        0 => "no gateway is live".to_owned(),
        all => format!("refused by {} of {all} gateways{after}", enforcing.len()),
    })
}

fn usage(used: &Value) -> String {
    if used.is_null() {
        return "Its use cannot be told: the control plane could not read the audit log.\n".to_owned();
    }
    let number = |name: &str| used.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut text = format!(
        "Since {}: {} calls, {} of them refused",
        field(used, "from"),
        number("calls"),
        number("refused")
    );
    if number("calls") > 0 {
        text.push_str(&format!(
            "; the last at {}, the last that was let through at {}",
            field(used, "last_call_at"),
            field(used, "last_allowed_at")
        ));
    }
    text.push_str(".\n");
    if used.get("complete") == Some(&Value::Bool(false)) {
        text.push_str("There are more calls than are looked at: these are the newest.\n");
    }
    text.push_str(&format!(
        "Unusual: {} addresses were first seen in the last 24 hours; {} calls came after it was revoked.\n",
        number("new_addresses"),
        number("calls_after_revocation")
    ));
    for finding in used.get("findings").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!("  {}: {}\n", field(finding, "kind"), field(finding, "summary")));
    }
    for (list, columns, more) in [
        ("addresses", ADDRESS_COLUMNS, "more_addresses"),
        ("endpoints", ENDPOINT_COLUMNS, "more_endpoints"),
        ("refusals", REFUSAL_COLUMNS, ""),
    ] {
        match used.get(list).and_then(Value::as_array) {
            Some(items) if !items.is_empty() => text.push_str(&format!("\n{}", table(items, columns))),
            _ => {}
        }
        match number(more) {
            0 => {}
            left => text.push_str(&format!(" and {left} more\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        let counted = json!({"calls": 3, "refused": 1, "first_call_at": "2027-01-15T07:00:00.000Z",
            "last_call_at": "2027-01-15T08:00:00.000Z"});
        let with = |fields: Value| {
            let mut all = counted.clone();
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            all
        };
        json!({
            "keys": [{
                "key": {"name": "ci", "status": "revoked"}, "versions": [{"id": 1, "was": "active"}], "revoked": true,
                "usage": {
                    "from": "2026-12-16T08:00:00.000Z", "complete": true, "calls": 3, "refused": 1,
                    "last_call_at": "2027-01-15T08:00:00.000Z", "last_allowed_at": "2027-01-15T07:30:00.000Z",
                    "new_addresses": 1, "calls_after_revocation": 1, "more_addresses": 2,
                    "addresses": [with(json!({"address": "203.0.113.7", "new": true}))],
                    "endpoints": [with(json!({"method": "GET", "endpoint": null}))],
                    "refusals": [{"reason": "key_revoked", "calls": 1}],
                    "findings": [{"kind": "volume_spike", "summary": "Far more calls than ever."}],
                },
                "replacement": {"key": {"name": "ci-2"}, "secret": "s3cret"},
            }],
            "unknown": 0, "malformed": 2,
            "enforcement": {"complete": true, "gateways": [
                {"id": "a", "enforced": true, "ms": 2}, {"id": "b", "enforced": true, "ms": 1}]},
        })
    }

    #[test]
    fn a_leak_is_told_with_what_was_done_first() {
        let mut answer = answer();
        let text = describe(&answer, false);
        let first = "ci leaked: version 1 (active). It is revoked; refused by 2 of 2 gateways after 2 ms. ci-2 goes on";
        assert!(text.starts_with(first), "{text}");
        for expected in [
            "3 calls, 1 of them refused",
            "203.0.113.7  new",
            "key_revoked",
            "  volume_spike: Far more calls than ever.\n",
            "and 2 more",
            "2 found",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("s3cret"));
        assert!(!without_secrets(answer.clone()).to_string().contains("s3cret"));
        answer["enforcement"] = Value::Null;
        answer["keys"][0]["revoked"] = json!(false);
        answer["keys"][0]["usage"] = Value::Null;
        let text = describe(&answer, true);
        assert!(text.contains("Nothing was changed.") && text.contains("cannot be told"), "{text}");
        assert!(describe(&answer, false).contains("had been revoked before."));
        let none = json!({"keys": [], "unknown": 1, "malformed": 0});
        assert!(describe(&none, false).contains("1 found that has the form"));
    }
}
