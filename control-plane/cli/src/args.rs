//! Options that several commands share.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use omniflow_api_types::page::{DEFAULT_LIMIT, MAX_LIMIT};
use omniflow_api_types::values::MAX_WAIT;

/// Default URL of the control plane.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// Above the options that every command takes, which come after its own.
const GLOBAL: &str = "Global options";

/// Options that every command takes.
#[derive(Debug, Args)]
pub struct Globals {
    /// Print the API's answers as JSON instead of tables.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// How the control plane is reached.
    #[command(flatten)]
    pub connection: Connection,
}

/// How the control plane is reached.
#[derive(Debug, Args)]
pub struct Connection {
    /// Where the control plane is.
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_URL", default_value = DEFAULT_URL)]
    pub(crate) url: String,
    /// The token that calls are made with. Best given in the environment: others see the command line.
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file that holds the token. What the command line states goes before the environment, and a token before its file.
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_TOKEN_FILE", value_parser = path())]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the CA certificates, in PEM form, by which the control plane's certificate is trusted, instead of
    /// the public ones.
    #[arg(long, global = true, help_heading = GLOBAL, env = "OMF_CA_FILE", value_parser = path())]
    pub(crate) ca_file: Option<PathBuf>,
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
pub(crate) enum TokenSource<'a> {
    /// In the variable or option with this name.
    Here(&'static str, &'a str),
    /// In the file that the variable or option with this name leads to.
    File(&'static str, &'a Path),
}

/// Whether a change is waited for.
#[derive(Debug, Args)]
pub(crate) struct Wait {
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
pub struct PageArgs {
    #[arg(
        long,
        help = format!("Items in one answer, up to {MAX_LIMIT} [default: {DEFAULT_LIMIT}]")
    )]
    limit: Option<u32>,
    /// Where an earlier answer ended.
    #[arg(long)]
    cursor: Option<String>,
}

/// One of these words, which help and completion then list. The control plane judges them as well.
pub(crate) fn one_of(words: impl IntoIterator<Item = &'static str>) -> PossibleValuesParser {
    PossibleValuesParser::new(words)
}

/// A path, which may be empty: an empty variable is one that is not set.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

// === impl Connection ===

impl Connection {
    /// Records which options the command line itself states, since those take precedence over the environment.
    /// `matches` are those of the whole command line.
    pub fn note_sources(&mut self, matches: &ArgMatches) {
        let is_stated = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        self.stated = Stated { token: is_stated("token"), token_file: is_stated("token_file") };
    }

    /// Where the token is, if one is given.
    pub(crate) fn token_source(&self) -> Option<TokenSource<'_>> {
        // An empty variable is one that is not set.
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let file = self.token_file.as_deref().filter(|path| !path.as_os_str().is_empty());
        let Stated { token: has_token, token_file: has_file } = self.stated;
        let here =
            token.map(|token| TokenSource::Here(if has_token { "--token" } else { "OMF_TOKEN" }, token));
        let file = file
            .map(|path| TokenSource::File(if has_file { "--token-file" } else { "OMF_TOKEN_FILE" }, path));
        if has_file && !has_token { file.or(here) } else { here.or(file) }
    }

    /// The file of CA certificates, if one is given.
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
            let mut connection = connection(["omf", "key", "list"].iter().chain(words).copied());
            // Tests share their environment, so this stands for it.
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
                Some(TokenSource::Here(name, token)) => format!("{name} {token}"),
                Some(TokenSource::File(name, path)) => format!("{name} {}", path.display()),
            };
            assert_eq!(place, expected, "{words:?} {environment:?}");
        }
    }
}
