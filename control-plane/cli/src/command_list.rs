//! The list of commands.

use clap::Command;

/// All commands with their paths, such as `key create`; a group comes before its subcommands.
pub fn commands(mut omf: Command) -> Vec<(String, Command)> {
    // Global options appear in each command only after this.
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
