//! `omf key`.

mod create;
mod import;
mod leaked;
mod revoke;
mod rotate;
mod update;

use clap::{Args, Subcommand};
use omniflow_policy::key::Environment;
use serde_json::{Value, json};

pub(super) use self::create::Attempt;
use self::create::Create;
use self::import::Import;
use self::leaked::Leaked;
use self::revoke::Revoke;
use self::rotate::Rotate;
use self::update::Update;
use super::args::{Page, one_of};
use super::client::{Client, segment};
use super::output::{Column, Output, field, items, table};
use omniflow_domain::key::KeyStatus;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
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

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omf key list --status active --environment live\n  omf key list --rotation-due\n  omf key list --expires-before 2027-02-01T00:00:00Z\n  \
        omf key list --status active --unused-since 2026-12-31T00:00:00Z\n  omf key list --json --limit 500"
)]
pub(super) struct List {
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
    page: Page,
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
pub(super) fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => create::run(args, client, output),
        Command::Import(args) => import::run(args, client, output),
        Command::List(args) => list(args, client, output),
        Command::Show { key } => output.print(&client.get(&path(&key), &[], "id")?, describe),
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
fn describe(key: &Value) -> String {
    let limit = |name: &str, words: &str| {
        let limit = key.pointer(&format!("/rate_limit/{name}")).filter(|limit| !limit.is_null())?;
        Some(format!("{limit} {words}"))
    };
    let limits = [limit("per_minute", "a minute"), limit("per_hour", "an hour"), limit("burst", "at once")];
    let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(", ");
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
        ("Revision", field(key, "revision")),
    ] {
        text.push_str(&format!("{heading:<12} {value}\n"));
    }
    let versions = json!({"items": key.get("versions")});
    text + "\n" + &table(items(&versions), VERSION_COLUMNS)
}
