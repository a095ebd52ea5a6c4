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
