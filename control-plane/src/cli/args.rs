//! What the command line takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use omniflow_policy::key::KeyPrefix;

use super::{audit, completions, db, doctor, gateway, key, policy, token};
use crate::json::page::{DEFAULT_LIMIT, MAX_LIMIT};

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
    #[arg(long, global = true, env = "OMF_URL", default_value = "http://127.0.0.1:8080")]
    pub(super) url: String,
    /// The token that calls are made with. Best given in the environment: others see the command line.
    #[arg(long, global = true, env = "OMF_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// A file that holds the token; read where no token is given.
    #[arg(long, global = true, env = "OMF_TOKEN_FILE")]
    pub(super) token_file: Option<PathBuf>,
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
    /// Issue, list, show, rotate and revoke keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Read the audit log, newest first.
    Audit(audit::Command),
    /// See which gateways enforce what.
    #[command(subcommand)]
    Gateway(gateway::Command),
    /// Make, list and revoke tokens for the control plane itself.
    #[command(subcommand)]
    Token(token::Command),
    /// Read and set routes and scopes.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Back up the databases, and restore them.
    #[command(subcommand)]
    Db(db::Command),
    /// Check that all is in place, and say what to do where it is not.
    Doctor(doctor::Doctor),
    /// Print what a shell needs to complete commands and options.
    Completions(completions::Completions),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf serve\n  \
    omf serve --listen 0.0.0.0:8080 --data-dir /var/lib/omniflow\n\n\
    The first start writes the owner's token to <data-dir>/admin-token. It is stored nowhere else.")]
pub(super) struct Serve {
    /// Address and port to listen on.
    #[arg(long, env = "OMF_LISTEN", default_value = "127.0.0.1:8080")]
    pub(super) listen: SocketAddr,
    /// Folder of the databases. It is made if it is missing, and readable for its owner only.
    #[arg(long, env = "OMF_DATA_DIR", default_value = "omniflow-data")]
    pub(super) data_dir: PathBuf,
    /// Where the first start writes the owner's token [default: <data-dir>/admin-token].
    #[arg(long, env = "OMF_ADMIN_TOKEN_FILE")]
    pub(super) admin_token_file: Option<PathBuf>,
    /// What all keys begin with. Only the first start reads it.
    #[arg(long, env = "OMF_KEY_PREFIX", default_value = "omf", value_parser = KeyPrefix::parse)]
    pub(super) key_prefix: KeyPrefix,
    /// Seconds for which a silent gateway still counts as live.
    #[arg(long, env = "OMF_GATEWAY_LEASE", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) gateway_lease: u64,
    /// Days after which the newest secret of a key is due for rotation; 0 for never.
    #[arg(long, env = "OMF_ROTATION_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(..=36_500))]
    pub(super) rotation_days: u64,
    /// What is logged to standard error: error, warn, info, debug or trace, also for single modules.
    #[arg(long, env = "OMF_LOG", default_value = "info")]
    pub(super) log: tracing_subscriber::filter::Targets,
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
