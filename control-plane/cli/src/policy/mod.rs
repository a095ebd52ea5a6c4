//! `omf policy`.

mod diff;
mod document;
mod explain;
mod replay;
mod set;

use clap::{Args, Subcommand};
use omniflow_api_types::policy::{PolicyJson, PolicyVersionJson, StoredPolicyJson};
use omniflow_api_types::values::{PolicyDocument, RouteDefinition, ScopeDefinition};

use self::diff::Diff;
use self::document::{TOML, json_text};
use self::explain::Explain;
use self::replay::Replay;
use self::set::{RollBack, Set};
use super::args::PageArgs;
use super::client::{Call, Client, Method};
use super::output::{Answer, Column, Output, cell, cell_of_list, table};

/// Commands of `omf policy`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show routes and scopes.
    ///
    /// With --json or --toml, only the document is printed, ready to be edited and published.
    Show(Show),
    /// Publish a document as the new policy version.
    Set(Set),
    /// List policy versions, newest first.
    #[command(after_help = "Examples:\n  omf policy versions\n  omf policy show --version 3 --toml")]
    Versions(PageArgs),
    /// Show the changes in a draft, or the differences between two versions.
    ///
    /// Nothing is published.
    Diff(Diff),
    /// Publish the document of an earlier version as a new version.
    Rollback(RollBack),
    /// Explain step by step how gateways decide on a request.
    Explain(Explain),
    /// Test a draft against past calls in the audit log.
    ///
    /// Counts the calls that the draft would newly allow or refuse. Nothing is published.
    Replay(Replay),
}

/// Arguments of `omf policy show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy show\n  \
    omf policy show --toml > policy.toml    # edit it, then: omf policy diff policy.toml; omf policy set policy.toml\n  \
    omf policy show --version 3 --json")]
pub struct Show {
    /// Version to show [default: the effective version].
    #[arg(long)]
    version: Option<u64>,
    /// Print the document as TOML.
    #[arg(long, conflicts_with = "json")]
    toml: bool,
}

const VERSION_COLUMNS: &[Column<PolicyVersionJson>] = &[
    ("VERSION", |version| cell(version.version)),
    ("PUBLISHED", |version| cell(version.created_at)),
    ("BY", |version| cell(&version.created_by)),
];
const ROUTE_COLUMNS: &[Column<RouteDefinition>] = &[
    ("METHODS", |route| cell_of_list(&route.methods)),
    ("PATH", |route| cell(&route.path)),
    ("SCOPE", |route| cell(&route.scope)),
    ("REDACTED", |route| cell_of_list(&route.redact)),
];
const SCOPE_COLUMNS: &[Column<ScopeDefinition>] =
    &[("SCOPE", |scope| cell(&scope.name)), ("ALLOWS", |scope| cell(&scope.description))];

pub(crate) fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Show(args) => show(&args, client, output),
        Command::Set(args) => set::run(args, client, output),
        Command::Versions(page) => {
            let versions = client.list("/v1/policy/versions", &[page.limit(), page.cursor()])?;
            output.list(&versions, "versions", VERSION_COLUMNS)
        }
        Command::Diff(args) => diff::run(args, client, output),
        Command::Rollback(args) => set::roll_back(args, client, output),
        Command::Explain(args) => explain::run(args, client, output),
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
        return output.print_text(&document);
    }
    let (version, document) = match args.version {
        Some(_) => {
            let StoredPolicyJson { version, document, .. } = client.get(&path, &[])?.body;
            (version, document)
        }
        None => {
            let PolicyJson { version, document, .. } = client.get(&path, &[])?.body;
            (version, document)
        }
    };
    output.print(&Answer::new(document)?, |document| describe(version, document))
}

fn describe(version: u64, document: &PolicyDocument) -> String {
    let imported = match document.imported_keys {
        true => "Imported keys are accepted.\n",
        false => "",
    };
    let payloads = match &document.payloads {
        default if default.is_default() => String::new(),
        payloads => format!("Payloads are stored as configured: {}\n", json_text(payloads)),
    };
    format!(
        "Version {version}\n{imported}{payloads}\n{}\n{}",
        table(&document.scopes, SCOPE_COLUMNS),
        table(&document.routes, ROUTE_COLUMNS)
    )
}
