//! `omf key`.

mod create;
mod import;
mod leaked;
mod resource;
mod revoke;
mod rotate;
mod update;

use clap::{Args, Subcommand};
use omniflow_api_types::key::KeyJson;
use omniflow_api_types::values::{Environment, KeyStatus};

use self::create::Create;
pub(crate) use self::create::IdempotencyArgs;
use self::import::Import;
use self::leaked::Leaked;
use self::resource::{describe, path};
use self::revoke::Revoke;
use self::rotate::Rotate;
use self::update::Update;
use super::args::{PageArgs, one_of};
use super::client::Client;
use super::output::{Column, Output, cell, cell_of_list, cell_or_none};

/// Commands of `omf key`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a key and print its secret once.
    Create(Create),
    /// Import an existing key by its SHA-256; clients keep using it.
    Import(Import),
    /// List keys, newest first.
    List(List),
    /// Show a key and its versions.
    Show {
        /// Name or ID of the key.
        key: String,
    },
    /// Change the scopes, limits, IP allowlist, expiry or description of a key.
    Update(Update),
    /// Create a new secret for a key and print it once.
    ///
    /// Older secrets stay valid for the overlap.
    Rotate(Rotate),
    /// Revoke a key, or one version of it, immediately.
    Revoke(Revoke),
    /// Revoke a leaked key and show how it was used.
    ///
    /// Finds the key by its secret on standard input, by the SHA-256 of the secret, or in a text that contains the
    /// secret.
    Leaked(Leaked),
}

/// Arguments of `omf key list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omf key list --status active --environment live\n  omf key list --rotation-due\n  omf key list --expires-before 2027-02-01T00:00:00Z\n  \
        omf key list --status active --unused-since 2026-12-31T00:00:00Z\n  omf key list --json --limit 500"
)]
pub struct List {
    /// Only keys with this status.
    #[arg(long, value_parser = one_of(KeyStatus::ALL.map(KeyStatus::as_str)))]
    status: Option<String>,
    /// Only keys in this environment.
    #[arg(long, value_parser = one_of(Environment::ALL.map(Environment::as_str)))]
    environment: Option<String>,
    /// Only keys with this scope.
    #[arg(long)]
    scope: Option<String>,
    /// Only keys whose rotation is due.
    #[arg(long)]
    rotation_due: bool,
    /// Only keys without an allowed call since a time, such as 2026-12-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    unused_since: Option<String>,
    /// Only valid keys that expire before a time, such as 2027-02-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires_before: Option<String>,
    /// Only keys with this text in the name or description, or with this hint.
    #[arg(long, value_name = "TEXT")]
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
