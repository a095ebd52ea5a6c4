//! `omf policy`.

mod diff;
mod evaluate;
mod replay;
mod set;

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::Value;

use self::diff::Diff;
use self::evaluate::Evaluate;
use self::replay::Replay;
use self::set::{RollBack, Set};
use super::args::Page;
use super::client::{Call, Client, Method};
use super::input;
use super::output::{Column, Output, field, table};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show routes and scopes. With --json or --toml the document alone, to be edited and set again.
    Show(Show),
    /// Set routes and scopes: the whole document, in place of the one in force.
    Set(Set),
    /// List the versions that were in force, newest first.
    #[command(after_help = "Examples:\n  omf policy versions\n  omf policy show --version 3 --toml")]
    Versions(Page),
    /// Show what a draft would change, or what differs between two versions. Nothing is set.
    Diff(Diff),
    /// Set the document of an earlier version again, as a new version.
    Rollback(RollBack),
    /// Explain step by step what becomes of one request.
    Evaluate(Evaluate),
    /// Count what a draft would have allowed or refused of the calls in the audit log. Nothing is set.
    Replay(Replay),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy show\n  \
    omf policy show --toml > policy.toml    # edit it, then: omf policy diff policy.toml; omf policy set policy.toml\n  \
    omf policy show --version 3 --json")]
pub(super) struct Show {
    /// An earlier version.
    #[arg(long)]
    version: Option<u64>,
    /// Print the document as TOML.
    #[arg(long, conflicts_with = "json")]
    toml: bool,
}

/// A document that a command reads.
#[derive(Debug, Args)]
struct DocumentArgs {
    /// The document, - for standard input. A file called *.toml is TOML, anything else JSON.
    file: String,
    /// It is TOML, whatever the file is called.
    #[arg(long)]
    toml: bool,
}

/// The bytes of a document, and what they are.
struct Document {
    media_type: &'static str,
    bytes: Vec<u8>,
}

const TOML: &str = "application/toml";
const VERSION_COLUMNS: &[Column] = &[
    ("VERSION", |version| field(version, "version")),
    ("SET", |version| field(version, "created_at")),
    ("BY", |version| field(version, "created_by")),
];
const ROUTE_COLUMNS: &[Column] = &[
    ("METHODS", |route| field(route, "methods")),
    ("PATH", |route| field(route, "path")),
    ("SCOPE", |route| field(route, "scope")),
];
const SCOPE_COLUMNS: &[Column] =
    &[("SCOPE", |scope| field(scope, "name")), ("ALLOWS", |scope| field(scope, "description"))];

pub(super) fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Show(args) => show(&args, client, output),
        Command::Set(args) => set::run(args, client, output),
        Command::Versions(page) => {
            let versions = client.list("/v1/policy/versions", &[page.limit(), page.cursor()])?;
            output.list(&versions, "versions", VERSION_COLUMNS)
        }
        Command::Diff(args) => diff::run(args, client, output),
        Command::Rollback(args) => set::roll_back(args, client, output),
        Command::Evaluate(args) => evaluate::run(args, client, output),
        Command::Replay(args) => replay::run(args, client, output),
    }
}

fn show(args: &Show, client: &Client, output: Output) -> anyhow::Result<()> {
    let path = match args.version {
        Some(version) => format!("/v1/policy/versions/{version}"),
        None => "/v1/policy".to_owned(),
    };
    if args.toml {
        let document = client.text(Call::new(Method::GET, &path), TOML)?;
        return output.text(&document);
    }
    let policy = client.get(&path, &[], "document")?;
    let shown = if output.json { policy.get("document").unwrap_or(&Value::Null) } else { &policy };
    output.print(shown, describe)
}

fn describe(policy: &Value) -> String {
    let list = |pointer: &str| policy.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let imported = match policy.pointer("/document/imported_keys") {
        Some(Value::Bool(true)) => "Keys of other systems are taken where they were imported.\n",
        _ => "",
    };
    let payloads = match policy.pointer("/document/payloads") {
        Some(payloads) => format!("Arguments of calls are kept as payloads says: {payloads}\n"),
        None => String::new(),
    };
    format!(
        "Version {}\n{imported}{payloads}\n{}\n{}",
        field(policy, "version"),
        table(&list("/document/scopes"), SCOPE_COLUMNS),
        table(&list("/document/routes"), ROUTE_COLUMNS)
    )
}

/// What stands in a draft's way, a line each.
fn obstacles(answer: &Value) -> String {
    let obstacles = answer.get("blocked_by").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    obstacles.iter().map(|one| format!("It cannot be set: {}\n", field(one, "detail"))).collect()
}

// === impl DocumentArgs ===

impl DocumentArgs {
    fn read(&self) -> anyhow::Result<Document> {
        let named_toml = Path::new(&self.file).extension().is_some_and(|extension| extension == "toml");
        let media_type = if self.toml || named_toml { TOML } else { "application/json" };
        Ok(Document { media_type, bytes: input::bytes(&self.file)? })
    }

    /// What people call it.
    fn name(&self) -> String {
        input::name(&self.file).to_owned()
    }
}

// === impl Document ===

impl Document {
    /// A call with the document as its body.
    fn call(self, method: Method, path: &str) -> Call {
        Call::new(method, path).body(self.media_type, self.bytes)
    }
}
