//! The command line: `omf serve` runs the control plane, `omf config` checks its settings, and `omf db` backs up and
//! restores its databases. All other commands call its API and are defined in `omniflow-cli`.

mod config;
mod db;
mod recover;
#[cfg(test)]
mod reference_tests;
mod serve;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use omniflow_cli::{ApiCommand, Completions, Doctor, Globals, ManualPages, Output, exit_code};

use self::recover::Recover;
use self::serve::Serve;
use crate::process;

/// The command group that [`RECOVER`] belongs to.
const TOKEN: &str = "token";
/// The command of that group that works on a data directory.
const RECOVER: &str = "recover";

/// API keys for Envoy: scoped, rate-limited, audited, and revoked on every gateway within milliseconds.
#[derive(Debug, Parser)]
#[command(
    name = "omf",
    version,
    after_help = "Examples:\n  \
        omf serve --data-dir ./data\n  \
        OMF_TOKEN_FILE=./data/admin-token omf key create --name ci --environment live --scope contacts:read\n  \
        omf key revoke ci --wait 5s"
)]
struct Omf {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane.
    Serve(Serve),
    /// Check the configuration of the control plane.
    #[command(subcommand)]
    Config(config::Command),
    #[command(flatten)]
    Api(Box<ApiCommand>),
    /// Back up and restore the databases.
    #[command(subcommand)]
    Db(db::Command),
    /// `token recover`, which is added to the commands of `omniflow-cli`. See [`command`].
    #[command(skip)]
    Recover(Recover),
    /// Diagnose the control plane and its gateways, and suggest fixes.
    Doctor(Doctor),
    /// Print a shell completion script.
    Completions(Completions),
    /// Write the manual pages of all commands to a directory.
    Man(ManualPages),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    process::configure_allocator();
    let omf = parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let json = omf.globals.json;
    exit_code(run(omf), json)
}

/// All commands without subcommands, such as `key create`, in the order of the help.
pub fn commands() -> Vec<String> {
    let commands = omniflow_cli::commands(command()).into_iter();
    commands.filter(|(_, command)| !command.is_subcommand_required_set()).map(|(path, _)| path).collect()
}

/// The complete command line. Global options are hidden where they have no effect: connection options for commands that
/// call no control plane, and `--json` for some of them.
fn command() -> clap::Command {
    let omf = Omf::command();
    let global: Vec<Arg> = omf.get_arguments().filter(|one| one.is_global_set()).cloned().collect();
    let hide_global = |command: clap::Command, has_json: bool| {
        let hidden = global.iter().filter(|one| !has_json || one.get_id() != "json");
        let hidden: Vec<Arg> = hidden.map(|one| one.clone().hide(true)).collect();
        command.args(hidden)
    };
    let recover = hide_global(Recover::augment_args(clap::Command::new(RECOVER)), true);
    omf.mut_subcommands(|command| match command.get_name() {
        "serve" | "completions" | "man" => hide_global(command, false),
        "db" | "config" => hide_global(command, true),
        TOKEN => command.subcommand(recover.clone()),
        _ => command,
    })
}

/// Parses a command line, whose first argument is the program.
fn parse(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Omf, clap::Error> {
    let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    let matches = command().try_get_matches_from(&words).map_err(|error| with_usage(error, &words))?;
    let recover = matches.subcommand_matches(TOKEN).and_then(|token| token.subcommand_matches(RECOVER));
    let mut omf = match recover {
        Some(recover) => Omf {
            globals: Globals::from_arg_matches(&matches)?,
            command: Command::Recover(Recover::from_arg_matches(recover)?),
        },
        None => Omf::from_arg_matches(&matches)?,
    };
    omf.globals.connection.note_sources(&matches);
    Ok(omf)
}

/// An error of the command line with the usage of the command alone: clap adds every option that the environment sets, as if
/// it were required.
fn with_usage(error: clap::Error, words: &[OsString]) -> clap::Error {
    match without_environment(command()).try_get_matches_from(words) {
        Err(same) if same.kind() == error.kind() => same,
        _ => error,
    }
}

fn without_environment(command: clap::Command) -> clap::Command {
    command.mut_args(|one| one.env(Resettable::Reset)).mut_subcommands(without_environment)
}

fn run(omf: Omf) -> anyhow::Result<()> {
    let Globals { json, connection } = omf.globals;
    let output = Output { json };
    match omf.command {
        Command::Serve(args) => serve::run(&args),
        Command::Config(command) => config::run(&command, output),
        Command::Api(command) => command.run(&connection, output),
        Command::Db(command) => db::run(command, output),
        Command::Recover(args) => recover::run(args, output),
        Command::Doctor(doctor) => doctor.run(&connection, output),
        Command::Completions(completions) => completions.run(command()),
        Command::Man(pages) => pages.run(command()),
    }
}
