//! The list of commands.

use clap::Command;

/// Each command of a command line with its path, such as `key create`, the outer ones before those in them.
pub fn commands(mut omf: Command) -> Vec<(String, Command)> {
    // Options that are taken everywhere appear in each command only after this.
    omf.build();
    let mut found = Vec::new();
    descend("", &omf, &mut found);
    found
}

fn descend(path: &str, command: &Command, found: &mut Vec<(String, Command)>) {
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        let path = format!("{path} {}", inner.get_name()).trim_start().to_owned();
        found.push((path.clone(), inner.clone()));
        descend(&path, inner, found);
    }
}
