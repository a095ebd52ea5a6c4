//! `omf key`.

mod create;
mod import;
mod leaked;
mod revoke;
mod rotate;
mod update;

use clap::{Args, Subcommand};
use omniflow_api_types::key::{KeyJson, KeyVersionJson};
use omniflow_api_types::values::{Environment, KeyStatus};

use self::create::Create;
pub(crate) use self::create::IdempotencyArgs;
use self::import::Import;
use self::leaked::Leaked;
use self::revoke::Revoke;
use self::rotate::Rotate;
use self::update::Update;
use super::args::{PageArgs, one_of};
use super::client::{Client, segment};
use super::output::{Column, Output, cell, cell_of_list, cell_or_none, table};

/// Commands of `omf key`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Issue a key. Its secret is printed once, to standard output.
    Create(Create),
    /// Take a key of another system over, by the digest of its secret.
    Import(Import),
    /// List keys, newest first.
    List(List),
    /// Show one key with its versions.
    Show {
        /// Name or identifier.
        key: String,
    },
    /// Change what a key may do, how often, from where and until when.
    Update(Update),
    /// Give a key a new secret, printed once to standard output. The older ones go on for the overlap.
    Rotate(Rotate),
    /// Revoke a key at once, or one version of it.
    Revoke(Revoke),
    /// Revoke what leaked: by a secret on standard input, by its digest, or by a text that has it. Tells how it was used.
    Leaked(Leaked),
}

/// Arguments of `omf key list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omf key list --status active --environment live\n  omf key list --rotation-due\n  omf key list --expires-before 2027-02-01T00:00:00Z\n  \
        omf key list --status active --unused-since 2026-12-31T00:00:00Z\n  omf key list --json --limit 500"
)]
pub struct List {
    /// Keys in this state.
    #[arg(long, value_parser = one_of(KeyStatus::ALL.map(KeyStatus::as_str)))]
    status: Option<String>,
    /// Keys of this environment.
    #[arg(long, value_parser = one_of(Environment::ALL.map(Environment::as_str)))]
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
    /// Keys that are accepted now and end before then.
    #[arg(long)]
    expires_before: Option<String>,
    /// Keys with this text in name or description, or with this hint.
    #[arg(long)]
    q: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

const COLUMNS: &[Column<KeyJson>] = &[
    ("NAME", |key| cell(&key.name)),
    ("ENVIRONMENT", |key| cell(key.environment)),
    ("STATUS", |key| cell(key.status)),
    ("SCOPES", |key| cell_of_list(key.scopes.iter())),
    ("LAST USED", |key| cell_or_none(key.last_used_at)),
    ("EXPIRES", |key| cell_or_none(key.expires_at)),
    ("ROTATION DUE", |key| cell_or_none(key.rotation_due_at)),
    ("ID", |key| cell(key.id)),
];
const VERSION_COLUMNS: &[Column<KeyVersionJson>] = &[
    ("VERSION", |version| cell(version.id)),
    ("HINT", |version| cell(&version.hint)),
    ("CREATED", |version| cell(version.created_at)),
    ("ENDS", |version| cell_or_none(version.expires_at)),
    ("REVOKED", |version| cell_or_none(version.revoked_at)),
    ("LAST USED", |version| cell_or_none(version.last_used_at)),
];

pub(crate) fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => create::run(args, client, output),
        Command::Import(args) => import::run(args, client, output),
        Command::List(args) => list(args, client, output),
        Command::Show { key } => output.print(&client.get(&path(&key), &[])?, describe),
        Command::Update(args) => update::run(args, client, output),
        Command::Rotate(args) => rotate::run(args, client, output),
        Command::Revoke(args) => revoke::run(args, client, output),
        Command::Leaked(args) => leaked::run(args, client, output),
    }
}

fn path(key: &str) -> String {
    format!("/v1/keys/{}", segment(key))
}

fn list(args: List, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = [
        ("status", args.status),
        ("environment", args.environment),
        ("scope", args.scope),
        ("rotation_due", args.rotation_due.then(|| true.to_string())),
        ("unused_since", args.unused_since),
        ("expires_before", args.expires_before),
        ("q", args.q),
        args.page.limit(),
        args.page.cursor(),
    ];
    output.list(&client.list("/v1/keys", &query)?, "keys", COLUMNS)
}

/// A key in full.
fn describe(key: &KeyJson) -> String {
    let limits = key.rate_limit;
    let limits = [
        limits.per_minute.map(|limit| format!("{limit} a minute")),
        limits.per_hour.map(|limit| format!("{limit} an hour")),
        limits.burst.map(|limit| format!("{limit} at once")),
    ];
    let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    for (heading, value) in [
        ("Name", cell(&key.name)),
        ("Id", cell(key.id)),
        ("Status", cell(key.status)),
        ("Environment", cell(key.environment)),
        ("Scopes", cell_of_list(key.scopes.iter())),
        ("Limits", limits),
        ("Addresses", cell_of_list(key.ip_allowlist.networks())),
        ("Description", cell_or_none(key.description.as_ref())),
        ("Created", format!("{} by {}", key.created_at, cell(&key.created_by))),
        ("Expires", cell_or_none(key.expires_at)),
        ("Last used", cell_or_none(key.last_used_at)),
        ("Rotation due", cell_or_none(key.rotation_due_at)),
        ("Revision", cell(key.revision)),
    ] {
        text.push_str(&format!("{heading:<12} {value}\n"));
    }
    text + "\n" + &table(&key.versions, VERSION_COLUMNS)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The JSON of an active key called `ci`, with these fields in place of its own.
    pub(crate) fn key(fields: Value) -> Value {
        let mut key = json!({
            "id": "0190163d-8694-739b-aea5-966c26f8ad91", "name": "ci", "environment": "live", "status": "active",
            "scopes": ["contacts:read"], "rate_limit": {"per_minute": 60, "per_hour": null, "burst": null},
            "ip_allowlist": [], "description": null, "created_by": "owner", "created_at": "2027-01-15T08:00:00.000Z",
            "expires_at": null, "last_used_at": null, "rotation_due_at": null, "versions": [], "revision": 1,
        });
        key.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        key
    }

    #[test]
    fn a_key_is_described_in_full() {
        let key: KeyJson =
            serde_json::from_value(key(json!({"description": "x\u{1b}[2J", "ip_allowlist": ["::1/128"]})))
                .unwrap();
        let text = describe(&key);
        for line in [
            "Name         ci",
            "Limits       60 a minute",
            "Addresses    ::1/128",
            "Description  x\u{fffd}[2J",
            "Created      2027-01-15T08:00:00.000Z by owner",
            "Expires      -",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
