//! The `omf` commands that call the API of a control plane. The `omf` binary adds the commands that run a control plane
//! or work on its databases.
//!
//! Exit codes: 0 success, 1 rejected or failed, 2 incorrect usage, 3 success, but not yet enforced by every gateway.
//! Results go to standard output, everything else to standard error.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

mod admin_log;
mod anomalies;
mod args;
mod audit;
mod client;
mod clock;
mod command_list;
mod completions;
mod doctor;
mod gateway;
mod http;
mod input;
mod key;
mod man;
mod output;
mod policy;
mod secret_output;
mod token;
mod trust;

#[cfg(test)]
mod testing;

use std::process::ExitCode;

use clap::Subcommand;

pub use self::args::{Connection, Globals};
use self::client::{Client, Rejection};
pub use self::command_list::commands;
pub use self::completions::Completions;
pub use self::doctor::Doctor;
pub use self::man::ManualPages;
pub use self::output::{Answer, Column, Output, cell, table};
use self::output::{NotEnforced, escape_json, printable_lines};
pub use self::secret_output::{SecretArgs, SecretOutput, secret_location};

/// Exit code of a successful change that some gateways do not enforce yet.
const NOT_ENFORCED: u8 = 3;

/// Commands that call the API.
#[derive(Debug, Subcommand)]
pub enum ApiCommand {
    /// Create, import, list, show, update, rotate and revoke keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Read the audit log, newest first.
    Audit(Box<audit::Command>),
    /// List anomalies in key usage, newest first.
    Anomalies(anomalies::Anomalies),
    /// List gateways and the versions they enforce, and remove ended gateways.
    #[command(subcommand)]
    Gateway(gateway::Command),
    /// Create, list, revoke and recover tokens for the control plane.
    #[command(subcommand)]
    Token(token::Command),
    /// Show, publish, compare and test the policy: routes and scopes.
    #[command(subcommand)]
    Policy(policy::Command),
    /// List changes by admins, newest first.
    AdminLog(admin_log::AdminLog),
}

impl ApiCommand {
    /// Runs the command against the control plane of `connection`.
    ///
    /// # Errors
    ///
    /// Fails if the control plane cannot be reached or rejects the call, or if not every gateway enforces the change in
    /// time.
    pub fn run(self, connection: &Connection, output: Output) -> anyhow::Result<()> {
        let client = Client::new(connection)?;
        match self {
            Self::Key(command) => key::run(command, &client, output),
            Self::Audit(command) => audit::run(*command, &client, output),
            Self::Anomalies(args) => anomalies::run(args, &client, output),
            Self::Gateway(command) => gateway::run(&command, &client, output),
            Self::Token(command) => token::run(command, &client, output),
            Self::Policy(command) => policy::run(command, &client, output),
            Self::AdminLog(args) => admin_log::run(args, &client, output),
        }
    }
}

/// Prints the error of a failed command, and converts the result into the exit code of the process.
pub fn exit_code(result: anyhow::Result<()>, json: bool) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("{}", format_error(&error, json));
    if error.is::<NotEnforced>() { ExitCode::from(NOT_ENFORCED) } else { ExitCode::FAILURE }
}

/// Formats an error as a line of text, or as the problem document of a rejection for programs.
fn format_error(error: &anyhow::Error, json: bool) -> String {
    match error.downcast_ref::<Rejection>() {
        _ if !json => printable_lines(&format!("omf: {error:#}")),
        Some(rejection) => escape_json(&rejection.problem.to_string()),
        None => escape_json(&serde_json::json!({"detail": format!("{error:#}")}).to_string()),
    }
}
