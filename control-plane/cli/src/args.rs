//! Options that several commands share.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use omniflow_api_types::page::{DEFAULT_LIMIT, MAX_LIMIT};
use omniflow_api_types::values::MAX_WAIT;

/// Default URL of the control plane.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// Heading of the options that every command has.
const GLOBAL: &str = "Global options";

/// Options that every command has.
#[derive(Debug, Args)]
pub struct Globals {
    /// Print API responses as JSON instead of tables.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Connection to the control plane.
    #[command(flatten)]
    pub connection: Connection,
}

/// Connection to the control plane.
#[derive(Debug, Args)]
pub struct Connection {
    /// URL of the control plane.
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_URL", default_value = DEFAULT_URL)]
    pub(crate) url: String,
    /// Token for the control plane.
    ///
    /// Other users of this machine can see command-line arguments: use the environment variable or --token-file instead.
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// File that contains the token.
    ///
    /// Options take precedence over environment variables, and a token takes precedence over a token file.
    #[arg(long, value_name = "FILE", global = true, help_heading = GLOBAL, env = "OMF_TOKEN_FILE", value_parser = path())]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the CA certificates to trust, in PEM, instead of the public CAs.
    #[arg(long, value_name = "FILE", global = true, help_heading = GLOBAL, env = "OMF_CA_FILE", value_parser = path())]
    pub(crate) ca_file: Option<PathBuf>,
    #[arg(skip)]
    stated: Stated,
}

/// Options that are set on the command line, rather than in the environment.
#[derive(Clone, Copy, Debug, Default)]
struct Stated {
    token: bool,
    token_file: bool,
}

/// Source of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenSource<'a> {
    /// The variable or option with this name, and the token.
    Value(&'static str, &'a str),
    /// The variable or option with this name, and the path of its file.
    File(&'static str, &'a Path),
}

/// Option to wait for the enforcement of a change.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[arg(
        long,
        value_name = "DURATION",
        help = format!("Wait for all gateways to enforce the change, up to {}s", MAX_WAIT.as_secs()),
        long_help = format!(
            "Wait for all gateways to enforce the change, up to {}s.\n\n\
             The exit code is 3 if some gateways do not enforce it in time.",
            MAX_WAIT.as_secs()
        )
    )]
    wait: Option<String>,
}

/// The page of a list.
#[derive(Debug, Args)]
pub struct PageArgs {
    #[arg(
        long,
        value_name = "COUNT",
        help = format!("Maximum number of items, up to {MAX_LIMIT} [default: {DEFAULT_LIMIT}]")
    )]
    limit: Option<u32>,
    /// Cursor from the previous page.
    #[arg(long)]
    cursor: Option<String>,
}

/// A parser of one of these values, which help and completion list. The control plane validates them as well.
pub(crate) fn one_of(values: impl IntoIterator<Item = &'static str>) -> PossibleValuesParser {
    PossibleValuesParser::new(values)
}

/// A parser of paths that may be empty: an empty variable counts as unset.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

// === impl Connection ===

impl Connection {
    /// Records which options are set on the command line, since they take precedence over the environment. `matches` belong
    /// to the whole command line.
    pub fn note_sources(&mut self, matches: &ArgMatches) {
        let is_stated = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        self.stated = Stated { token: is_stated("token"), token_file: is_stated("token_file") };
    }

    /// The source of the token, if there is one.
    pub(crate) fn token_source(&self) -> Option<TokenSource<'_>> {
        // An empty variable counts as unset.
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let file = self.token_file.as_deref().filter(|path| !path.as_os_str().is_empty());
        let Stated { token: has_token, token_file: has_file } = self.stated;
        let here =
            token.map(|token| TokenSource::Value(if has_token { "--token" } else { "OMF_TOKEN" }, token));
        let file = file
            .map(|path| TokenSource::File(if has_file { "--token-file" } else { "OMF_TOKEN_FILE" }, path));
        if has_file && !has_token { file.or(here) } else { here.or(file) }
    }

    /// The file with CA certificates, if one is set.
    pub(crate) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref().filter(|path| !path.as_os_str().is_empty())
    }
}

// === impl Wait ===

impl Wait {
    /// The query parameter `wait`.
    pub(crate) fn parameter(self) -> (&'static str, Option<String>) {
        ("wait", self.wait)
    }
}

// === impl PageArgs ===

impl PageArgs {
    /// The query parameter `limit`.
    pub(crate) fn limit(&self) -> (&'static str, Option<String>) {
        ("limit", self.limit.map(|limit| limit.to_string()))
    }

    /// The query parameter `cursor`.
    pub(crate) fn cursor(&self) -> (&'static str, Option<String>) {
        ("cursor", self.cursor.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::connection;

    #[test]
    fn the_command_line_takes_precedence_over_the_environment() {
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
            let mut connection = connection(["omf", "key", "list"].iter().chain(words).copied());
            // Tests share their environment, so this replaces it.
            connection.token = connection.token.filter(|_| connection.stated.token);
            connection.token_file = connection.token_file.filter(|_| connection.stated.token_file);
            if environment.contains(&"token") && !connection.stated.token {
                connection.token = Some("variable".to_owned());
            }
            if environment.contains(&"token_file") && !connection.stated.token_file {
                connection.token_file = Some("/variable".into());
            }
            let place = match connection.token_source() {
                None => "none".to_owned(),
                Some(TokenSource::Value(name, token)) => format!("{name} {token}"),
                Some(TokenSource::File(name, path)) => format!("{name} {}", path.display()),
            };
            assert_eq!(place, expected, "{words:?} {environment:?}");
        }
    }
}
