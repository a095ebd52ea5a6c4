//! What the command line takes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::serve::Serve;
use super::{audit, completions, config, db, doctor, events, gateway, key, policy, token};
use omniflow_api_types::page::{DEFAULT_LIMIT, MAX_LIMIT};
use omniflow_domain::gateway::MAX_WAIT;

/// Where a control plane is unless it was told otherwise.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// Above the options that every command takes, which come after its own.
const GLOBAL: &str = "Global options";

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
    #[arg(long, global = true, help_heading = GLOBAL)]
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
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_URL", default_value = DEFAULT_URL)]
    pub(super) url: String,
    /// The token that calls are made with. Best given in the environment: others see the command line.
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// A file that holds the token. What the command line states goes before the environment, and a token before its file.
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_TOKEN_FILE", value_parser = path())]
    pub(super) token_file: Option<PathBuf>,
    /// A file with the CA certificates, in PEM form, by which the control plane's certificate is trusted, instead of
    /// the public ones.
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_CA_FILE", value_parser = path())]
    pub(super) ca_file: Option<PathBuf>,
    #[arg(skip)]
    stated: Stated,
}

/// What of a connection the command line itself states, rather than the environment.
#[derive(Clone, Copy, Debug, Default)]
struct Stated {
    token: bool,
    token_file: bool,
}

/// Where the token of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenPlace<'a> {
    /// In the variable or option with this name.
    Here(&'static str, &'a str),
    /// In the file that the variable or option with this name leads to.
    File(&'static str, &'a Path),
}

/// Whether a change is waited for.
#[derive(Debug, Args)]
pub(super) struct Wait {
    #[arg(
        long,
        help = format!(
            "Wait until all gateways enforce it, at most this long, up to {}s. Ends with 3 if some do not by then",
            MAX_WAIT.as_secs()
        )
    )]
    wait: Option<String>,
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

/// The whole command line. Options that every command takes are not shown where they change nothing: with commands that
/// call no control plane, those by which one is reached, and with some `--json` as well.
pub(super) fn command() -> clap::Command {
    let omf = Omf::command();
    let global: Vec<Arg> = omf.get_arguments().filter(|one| one.is_global_set()).cloned().collect();
    omf.mut_subcommands(|command| {
        let has_json = match command.get_name() {
            "serve" | "completions" => false,
            "db" | "config" => true,
            _ => return command,
        };
        let hidden = global.iter().filter(|one| !has_json || one.get_id() != "json");
        let hidden: Vec<Arg> = hidden.map(|one| one.clone().hide(true)).collect();
        command.args(hidden)
    })
}

/// Reads a command line, whose first word is the program.
pub(super) fn parse(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Omf, clap::Error> {
    let matches = command().try_get_matches_from(words)?;
    let mut omf = Omf::from_arg_matches(&matches)?;
    let is_stated = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
    omf.connection.stated = Stated { token: is_stated("token"), token_file: is_stated("token_file") };
    Ok(omf)
}

/// One of these words, which help and completion then list. The control plane judges them as well.
pub(super) fn one_of(words: impl IntoIterator<Item = &'static str>) -> PossibleValuesParser {
    PossibleValuesParser::new(words)
}

/// A path, which may be empty: an empty variable is one that is not set.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

// === impl Connection ===

impl Connection {
    /// Where the token is, if one is given.
    pub(super) fn token_place(&self) -> Option<TokenPlace<'_>> {
        // An empty variable is one that is not set.
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let file = self.token_file.as_deref().filter(|path| !path.as_os_str().is_empty());
        let Stated { token: has_token, token_file: has_file } = self.stated;
        let here =
            token.map(|token| TokenPlace::Here(if has_token { "--token" } else { "OMF_TOKEN" }, token));
        let file =
            file.map(|path| TokenPlace::File(if has_file { "--token-file" } else { "OMF_TOKEN_FILE" }, path));
        if has_file && !has_token { file.or(here) } else { here.or(file) }
    }

    /// The file of CA certificates, if one is given.
    pub(super) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref().filter(|path| !path.as_os_str().is_empty())
    }
}

// === impl Wait ===

impl Wait {
    /// The query parameter `wait`.
    pub(super) fn parameter(self) -> (&'static str, Option<String>) {
        ("wait", self.wait)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_before_the_environment() {
        let both = ["token", "token_file"];
        for (words, environment, expected) in [
            (&["--token", "a"][..], &[][..], "--token a"),
            (&["--token", "a"], &["token_file"], "--token a"),
            (&["--token-file", "/f"], &[], "--token-file /f"),
            (&["--token-file", "/f"], &["token"], "--token-file /f"),
            (&["--token-file", "/f", "--token", "a"], &[], "--token a"),
            (&["--token", ""], &["token_file"], "OMF_TOKEN_FILE /variable"),
            (&["--token-file", ""], &["token"], "OMF_TOKEN variable"),
            (&[], &both, "OMF_TOKEN variable"),
            (&[], &["token_file"], "OMF_TOKEN_FILE /variable"),
            (&[], &[], "none"),
        ] {
            let mut connection = parse(["omf", "key", "list"].iter().chain(words)).unwrap().connection;
            // Tests share their environment, so this stands for it.
            connection.token = connection.token.filter(|_| connection.stated.token);
            connection.token_file = connection.token_file.filter(|_| connection.stated.token_file);
            if environment.contains(&"token") && !connection.stated.token {
                connection.token = Some("variable".to_owned());
            }
            if environment.contains(&"token_file") && !connection.stated.token_file {
                connection.token_file = Some("/variable".into());
            }
            let place = match connection.token_place() {
                None => "none".to_owned(),
                Some(TokenPlace::Here(name, token)) => format!("{name} {token}"),
                Some(TokenPlace::File(name, path)) => format!("{name} {}", path.display()),
            };
            assert_eq!(place, expected, "{words:?} {environment:?}");
        }
    }
}
