//! Helpers shared by the tests of several commands.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde_json::{Value, json};

use crate::{ApiCommand, Connection, Doctor, Globals};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    _command: Any,
}

#[derive(Debug, Subcommand)]
enum Any {
    #[command(flatten)]
    Api(Box<ApiCommand>),
    Doctor(Doctor),
}

/// The connection of a command line.
pub(crate) fn connection<'a>(words: impl IntoIterator<Item = &'a str>) -> Connection {
    let matches = Line::command().try_get_matches_from(words).unwrap();
    let mut connection = Line::from_arg_matches(&matches).unwrap().globals.connection;
    connection.note_sources(&matches);
    connection
}

/// The JSON of an active key called `ci`, with these fields replaced.
pub(crate) fn key(fields: Value) -> Value {
    let mut key = json!({
        "id": "0190163d-8694-739b-aea5-966c26f8ad91", "name": "ci", "environment": "live", "status": "active",
        "scopes": ["contacts:read"], "rate_limit": {"per_minute": 60, "per_hour": null, "burst": null},
        "ip_allowlist": [], "description": null, "created_by": "owner", "created_at": "2027-01-15T08:00:00.000Z",
        "expires_at": null, "last_used_at": null, "rotation_due_at": null, "versions": [], "revision": 1,
    });
    key.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    key
}

#[test]
fn short_help_has_at_most_80_characters() {
    let commands = crate::commands(Line::command());
    assert!(commands.len() > 20, "{}", commands.len());
    for (path, command) in commands {
        let options = command.get_arguments().filter_map(clap::Arg::get_help);
        for help in command.get_about().into_iter().chain(options) {
            let length = help.to_string().chars().count();
            assert!(length <= 80, "omf {path}: {length} characters: {help}");
        }
    }
}
