//! What the command line takes.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use super::serve::Serve;
use super::{audit, completions, config, db, doctor, events, gateway, key, policy, token};
use crate::json::page::{DEFAULT_LIMIT, MAX_LIMIT};

/// Where a control plane is unless it was told otherwise.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// API keys for Envoy: issued, scoped, rate-limited, audited, revoked everywhere at once.
#[derive(Debug, Parser)]
#[command(
    name = "omf",
    version,
    after_help = "Examples:\n  \
        omf serve --data-dir ./data\n  \
        OMF_TOKEN_FILE=./data/admin-token omf key create --name ci --environment live --scope contacts:read\n  \
        omf key revoke ci --wait 5s"
)]
pub(super) struct Omf {
    /// Print the API's answers as JSON instead of tables.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How the control plane is reached.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// Where the control plane is.
    #[arg(long, global = true, env = "OMF_URL", default_value = DEFAULT_URL)]
    pub(super) url: String,
    /// The token that calls are made with. Best given in the environment: others see the command line.
    #[arg(long, global = true, env = "OMF_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// A file that holds the token; read where no token is given.
    #[arg(long, global = true, env = "OMF_TOKEN_FILE", value_parser = path())]
    pub(super) token_file: Option<PathBuf>,
    /// A file with the CA certificates, in PEM form, by which the control plane's certificate is trusted, instead of
    /// the public ones.
    #[arg(long, global = true, env = "OMF_CA_FILE", value_parser = path())]
    pub(super) ca_file: Option<PathBuf>,
}

/// Which page of a list is printed.
#[derive(Debug, Args)]
pub(super) struct Page {
    #[arg(
        long,
        help = format!("Items in one answer, up to {MAX_LIMIT} [default: {DEFAULT_LIMIT}]")
    )]
    limit: Option<u32>,
    /// Where an earlier answer ended.
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the control plane.
    Serve(Serve),
    /// Check the configuration of the control plane.
    #[command(subcommand)]
    Config(config::Command),
    /// Issue, import, list, show, change, rotate and revoke keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Read the audit log, newest first.
    Audit(Box<audit::Command>),
    /// See which gateways enforce what.
    #[command(subcommand)]
    Gateway(gateway::Command),
    /// Make, list and revoke tokens for the control plane itself.
    #[command(subcommand)]
    Token(token::Command),
    /// Read, set, compare, explain and rehearse routes and scopes.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Read the trail of what admins did, newest first.
    Events(events::Events),
    /// Back up the databases, and restore them.
    #[command(subcommand)]
    Db(db::Command),
    /// Check that all is in place, and say what to do where it is not.
    Doctor(doctor::Doctor),
    /// Print what a shell needs to complete commands and options.
    Completions(completions::Completions),
}

/// A path, which may be empty: an empty variable is one that is not set.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

// === impl Page ===

impl Page {
    /// The query parameter `limit`.
    pub(super) fn limit(&self) -> (&'static str, Option<String>) {
        ("limit", self.limit.map(|limit| limit.to_string()))
    }

    /// The query parameter `cursor`.
    pub(super) fn cursor(&self) -> (&'static str, Option<String>) {
        ("cursor", self.cursor.clone())
    }
}
