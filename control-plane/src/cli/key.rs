//! `omf key`.

use clap::{Args, Subcommand};
use omniflow_policy::limit::DEFAULT_PER_MINUTE;
use omniflow_policy::time::UnixMillis;
use serde_json::{Value, json};

use super::args::Page;
use super::client::{Client, segment};
use super::output::{Column, Output, field, items, table};
use super::secret_output::{SecretArgs, whereabouts};
use crate::clock::Clock;
use crate::fleet::MAX_WAIT;
use crate::json::time::parse_time;
use crate::model::key::{DEFAULT_OVERLAP, MAX_OVERLAP};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Issue a key. Its secret is printed once, to standard output.
    Create(Create),
    /// List keys, newest first.
    List(List),
    /// Show one key with its versions.
    Show {
        /// Name or identifier.
        key: String,
    },
    /// Give a key a new secret, printed once to standard output. The older ones go on for the overlap.
    Rotate(Rotate),
    /// Revoke a key at once, or one version of it.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf key create --name ci --environment live --scope contacts:read --scope tickets:write\n  \
    omf key create --name partner --environment test --scope contacts:read --per-minute 600 --allow 203.0.113.0/24\n  \
    SECRET=$(omf key create --name ci --environment live --scope contacts:read)\n  \
    omf key create --name ci --environment live --scope contacts:read --output-file ci-key\n  \
    omf key create --name ci --environment live --scope contacts:read --output-file - | vault kv put secret/ci key=-")]
pub(super) struct Create {
    /// A name that no other key has.
    #[arg(long)]
    name: String,
    /// live or test.
    #[arg(long)]
    environment: String,
    /// What the key may do, such as contacts:read; repeat it for more.
    #[arg(long = "scope", required = true)]
    scopes: Vec<String>,
    #[arg(
        long,
        help = format!("Calls a minute, sustained [default: {DEFAULT_PER_MINUTE}, unless --per-hour is given]")
    )]
    per_minute: Option<u32>,
    /// Calls an hour, sustained.
    #[arg(long)]
    per_hour: Option<u32>,
    /// Calls at once [default: the limit itself].
    #[arg(long)]
    burst: Option<u32>,
    /// An address or network from which the key may be used; repeat it for more [default: any].
    #[arg(long = "allow")]
    ip_allowlist: Vec<String>,
    /// When the key ends, such as 2027-01-31T00:00:00Z.
    #[arg(long)]
    expires_at: Option<String>,
    /// What the key is for.
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    secret: SecretArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omf key list --status active --environment live\n  omf key list --rotation-due\n  \
        omf key list --status active --unused-since 2026-12-31T00:00:00Z\n  omf key list --json --limit 500"
)]
pub(super) struct List {
    /// active, rotating, revoked or expired.
    #[arg(long)]
    status: Option<String>,
    /// live or test.
    #[arg(long)]
    environment: Option<String>,
    /// Keys with this scope.
    #[arg(long)]
    scope: Option<String>,
    /// Keys whose rotation is due.
    #[arg(long)]
    rotation_due: bool,
    /// Keys that were not let through since then, or never, such as 2026-12-31T00:00:00Z.
    #[arg(long)]
    unused_since: Option<String>,
    /// Keys with this text in name or description, or with this hint.
    #[arg(long)]
    q: Option<String>,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    SECRET=$(omf key rotate ci)\n  \
    omf key rotate ci --overlap 7d\n  \
    omf key rotate ci --overlap 0s\n  \
    omf key rotate ci --output-file - | gh secret set CI_KEY\n\n\
    An overlap prolongs nothing: a version that would have ended sooner still does. To end an older secret before\n\
    its overlap is over: omf key revoke ci --version 1 --wait 5s")]
pub(super) struct Rotate {
    /// Name or identifier.
    key: String,
    #[arg(
        long,
        help = format!(
            "How long the older secrets are still accepted, from 0s to {}h [default: {}h]",
            MAX_OVERLAP.as_secs() / 3_600,
            DEFAULT_OVERLAP.as_secs() / 3_600
        )
    )]
    overlap: Option<String>,
    #[command(flatten)]
    secret: SecretArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  omf key revoke ci --wait 5s\n  omf key revoke ci --version 1")]
pub(super) struct Revoke {
    /// Name or identifier.
    key: String,
    /// Only this version.
    #[arg(long)]
    version: Option<u16>,
    #[arg(
        long,
        help = format!(
            "Wait until all gateways enforce it, at most this long, up to {}s. Ends with 1 if some do not by then",
            MAX_WAIT.as_secs()
        )
    )]
    wait: Option<String>,
}

const COLUMNS: &[Column] = &[
    ("NAME", |key| field(key, "name")),
    ("ENVIRONMENT", |key| field(key, "environment")),
    ("STATUS", |key| field(key, "status")),
    ("SCOPES", |key| field(key, "scopes")),
    ("LAST USED", |key| field(key, "last_used_at")),
    ("EXPIRES", |key| field(key, "expires_at")),
    ("ROTATION DUE", |key| field(key, "rotation_due_at")),
    ("ID", |key| field(key, "id")),
];
const VERSION_COLUMNS: &[Column] = &[
    ("VERSION", |version| field(version, "id")),
    ("HINT", |version| field(version, "hint")),
    ("CREATED", |version| field(version, "created_at")),
    ("ENDS", |version| field(version, "expires_at")),
    ("REVOKED", |version| field(version, "revoked_at")),
    ("LAST USED", |version| field(version, "last_used_at")),
];
const ENFORCEMENT_COLUMNS: &[Column] = &[
    ("GATEWAY", |gateway| field(gateway, "id")),
    ("ENFORCED", |gateway| field(gateway, "enforced")),
    ("WORKERS", |gateway| format!("{}/{}", field(gateway, "enforced_workers"), field(gateway, "workers"))),
    ("MS", |gateway| field(gateway, "ms")),
    ("LAST SEEN", |gateway| field(gateway, "last_seen_at")),
];

pub(super) fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => create(args, client, output),
        Command::List(args) => {
            let query = [
                ("status", args.status),
                ("environment", args.environment),
                ("scope", args.scope),
                ("rotation_due", args.rotation_due.then(|| true.to_string())),
                ("unused_since", args.unused_since),
                ("q", args.q),
                args.page.limit(),
                args.page.cursor(),
            ];
            output.list(&client.list("/v1/keys", &query)?, "keys", COLUMNS)
        }
        Command::Show { key } => {
            output.print(&client.get(&format!("/v1/keys/{}", segment(&key)), &[], "id")?, describe)
        }
        Command::Rotate(args) => rotate(args, client, output),
        Command::Revoke(args) => revoke(args, client, output),
    }
}

fn create(args: Create, client: &Client, output: Output) -> anyhow::Result<()> {
    let place = args.secret.open(output)?;
    let limited = args.per_minute.is_some() || args.per_hour.is_some() || args.burst.is_some();
    let rate_limit = json!({"per_minute": args.per_minute, "per_hour": args.per_hour, "burst": args.burst});
    let request = json!({
        "name": args.name,
        "environment": args.environment,
        "scopes": args.scopes,
        "rate_limit": limited.then_some(rate_limit),
        "ip_allowlist": args.ip_allowlist,
        "expires_at": args.expires_at,
        "description": args.description,
    });
    let created = client.post("/v1/keys", &request, "secret")?;
    let file = place.deliver(created, output)?;
    if !output.json {
        eprintln!("This is the secret of {}. {}", args.name, whereabouts(file.as_deref()));
    }
    Ok(())
}

fn rotate(args: Rotate, client: &Client, output: Output) -> anyhow::Result<()> {
    let place = args.secret.open(output)?;
    let path = format!("/v1/keys/{}/rotate", segment(&args.key));
    let rotated = client.post(&path, &json!({"overlap": args.overlap}), "secret")?;
    let key = rotated.get("key").cloned().unwrap_or_default();
    let file = place.deliver(rotated, output)?;
    if !output.json {
        eprintln!("{}", rotation_note(&key, &whereabouts(file.as_deref())));
    }
    Ok(())
}

/// What a person has to know who holds a new secret.
fn rotation_note(key: &Value, whereabouts: &str) -> String {
    let versions = key.get("versions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let Some((newest, older)) = versions.split_last() else { return String::new() };
    let until = match older.iter().filter(|version| version.get("revoked_at") == Some(&Value::Null)) {
        older if field(key, "status") == "rotating" => {
            // All times have one form, so that they sort as text.
            let end = older.map(|version| field(version, "expires_at")).max().unwrap_or_default();
            format!("The secrets before it are accepted until {end} at the latest.")
        }
        _ => "No secret before it is accepted any more.".to_owned(),
    };
    let (name, number) = (field(key, "name"), field(newest, "id"));
    format!("This is the secret of version {number} of {name}. {whereabouts} {until}")
}

fn revoke(args: Revoke, client: &Client, output: Output) -> anyhow::Result<()> {
    let key = segment(&args.key);
    let path = match args.version {
        Some(version) => format!("/v1/keys/{key}/versions/{version}/revoke"),
        None => format!("/v1/keys/{key}/revoke"),
    };
    let answer = client.post_empty(&path, &[("wait", args.wait)], "key")?;
    output.print(&answer, |answer| {
        let mut text = revocation_note(answer, args.version, Clock::system().now()) + "\n";
        text.push_str(&describe(answer.get("key").unwrap_or(&Value::Null)));
        if let Some(gateways) = answer.pointer("/enforcement/gateways").and_then(Value::as_array) {
            text.push('\n');
            text.push_str(&table(gateways, ENFORCEMENT_COLUMNS));
        }
        text
    })?;
    if answer.pointer("/enforcement/complete") == Some(&Value::Bool(false)) {
        anyhow::bail!("revoked, but not every gateway enforces it yet");
    }
    Ok(())
}

/// What was revoked and who enforces it, the outcome first.
fn revocation_note(answer: &Value, version: Option<u16>, now: UnixMillis) -> String {
    let name = field(answer.get("key").unwrap_or(&Value::Null), "name");
    let revoked = match version {
        Some(version) => format!("Version {version} of {name} is revoked"),
        None => format!("{name} is revoked"),
    };
    let Some(gateways) = answer.pointer("/enforcement/gateways").and_then(Value::as_array) else {
        return revoked + ".\n";
    };
    if gateways.is_empty() {
        return revoked + "; no gateway is live.\n";
    }
    let (enforcing, others): (Vec<_>, Vec<_>) =
        gateways.iter().partition(|gateway| gateway.get("enforced") == Some(&Value::Bool(true)));
    let (number, all) = (enforcing.len(), gateways.len());
    // Not told where it had been revoked before.
    let slowest = enforcing.iter().filter_map(|gateway| gateway.get("ms").and_then(Value::as_u64)).max();
    let after = slowest.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
    let mut text = format!("{revoked}; {number} of {all} gateways enforce it{after}.\n");
    for gateway in others {
        let seen = field(gateway, "last_seen_at");
        let seen = match parse_time(&seen) {
            Some(time) => format!("{} s ago", now.0.saturating_sub(time.0) / 1_000),
            None => seen,
        };
        text.push_str(&format!("{} was last seen {seen}\n", field(gateway, "id")));
    }
    text
}

/// A key in full.
fn describe(key: &Value) -> String {
    let limit = |name: &str| field(key.get("rate_limit").unwrap_or(&Value::Null), name);
    let limits =
        format!("{} a minute, {} an hour, burst {}", limit("per_minute"), limit("per_hour"), limit("burst"));
    let mut text = String::new();
    for (heading, value) in [
        ("Name", field(key, "name")),
        ("Id", field(key, "id")),
        ("Status", field(key, "status")),
        ("Environment", field(key, "environment")),
        ("Scopes", field(key, "scopes")),
        ("Limits", limits),
        ("Addresses", field(key, "ip_allowlist")),
        ("Description", field(key, "description")),
        ("Created", format!("{} by {}", field(key, "created_at"), field(key, "created_by"))),
        ("Expires", field(key, "expires_at")),
        ("Last used", field(key, "last_used_at")),
        ("Rotation due", field(key, "rotation_due_at")),
    ] {
        text.push_str(&format!("{heading:<12} {value}\n"));
    }
    let versions = json!({"items": key.get("versions")});
    text + "\n" + &table(items(&versions), VERSION_COLUMNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_begins_with_its_outcome() {
        let gateway = |id: &str, enforced: bool, ms: Option<u64>| json!({"id": id, "enforced": enforced, "ms": ms, "last_seen_at": "2027-01-15T07:59:58.000Z"});
        let now = parse_time("2027-01-15T08:00:00.500Z").unwrap();
        let said = |version, gateways: Value| {
            let answer = json!({"key": {"name": "crm-sync"}, "enforcement": {"gateways": gateways}});
            revocation_note(&answer, version, now)
        };
        assert_eq!(
            said(None, json!([gateway("edge-1/a", true, Some(1))])),
            "crm-sync is revoked; 1 of 1 gateways enforce it after 1 ms.\n"
        );
        let three = json!([
            gateway("a", true, Some(3)),
            gateway("edge-1/7d6e", false, None),
            gateway("b", true, Some(9))
        ]);
        assert_eq!(
            said(Some(2), three),
            "Version 2 of crm-sync is revoked; 2 of 3 gateways enforce it after 9 ms.\n\
             edge-1/7d6e was last seen 2 s ago\n"
        );
        let again = said(None, json!([gateway("a", true, None), gateway("b", true, None)]));
        assert_eq!(again, "crm-sync is revoked; 2 of 2 gateways enforce it.\n");
        assert_eq!(said(None, json!([])), "crm-sync is revoked; no gateway is live.\n");
        let without = json!({"key": {"name": "crm-sync"}});
        assert_eq!(revocation_note(&without, None, now), "crm-sync is revoked.\n");
    }

    #[test]
    fn a_rotation_is_explained() {
        let version = |id: u16, ends: Option<&str>, revoked: Option<&str>| {
            json!({"id": id, "hint": "ab6M", "created_at": "2027-01-15T08:00:00.000Z", "expires_at": ends,
                   "revoked_at": revoked, "last_used_at": null})
        };
        let (soon, late) = (Some("2027-01-16T08:00:00.000Z"), Some("2027-01-17T08:00:00.000Z"));
        let versions =
            [version(1, soon, None), version(2, late, soon), version(3, soon, None), version(4, None, None)];
        let mut key = json!({"name": "ci", "status": "rotating", "versions": versions});
        let note = rotation_note(&key, "");
        assert!(note.starts_with("This is the secret of version 4 of ci."), "{note}");
        assert!(note.contains("accepted until 2027-01-16T08:00:00.000Z at the latest"), "{note}");
        key["status"] = json!("active");
        assert!(rotation_note(&key, "").contains("No secret before it"));
        for expected in ["Rotation due", "ENDS", "LAST USED", "HINT", "ab6M", "2027-01-17T08:00:00.000Z"] {
            assert!(describe(&key).contains(expected), "{}", describe(&key));
        }
    }
}
