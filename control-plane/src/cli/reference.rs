//! Which commands there are, and what each says of itself.

use clap::Command;

use super::args;

/// All commands that do something by themselves, such as `key create`, in the order of the help.
pub fn commands() -> Vec<String> {
    walk()
        .into_iter()
        .filter(|(_, command)| !command.is_subcommand_required_set())
        .map(|(path, _)| path)
        .collect()
}

/// Each command with its path, the outer ones before those in them.
fn walk() -> Vec<(String, Command)> {
    let mut omf = args::command();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The help of a command as `--help` prints it, without what depends on the machine.
    fn help(command: &Command) -> String {
        // What the environment holds would be shown beside the variables.
        let mut command = command.clone().mut_args(|argument| argument.hide_env_values(true)).term_width(100);
        let text = command.render_long_help().to_string();
        text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn help_texts_are_under_review() {
        let mut omf = args::command();
        omf.build();
        let mut text = format!("$ omf --help\n{}", help(&omf));
        for (path, command) in walk() {
            text.push_str(&format!("\n$ omf {path} --help\n{}", help(&command)));
        }
        let serve = text.split("$ omf ").find(|text| text.starts_with("serve")).unwrap();
        assert!(!serve.contains("OMF_TOKEN") && text.contains("Global options:"));
        crate::golden::check("help.txt", &text);
    }

    #[test]
    fn groups_are_no_commands_and_what_is_both_is_one() {
        let commands = commands();
        for command in ["serve", "key create", "audit", "audit gaps", "db backup", "doctor"] {
            assert!(commands.iter().any(|one| one == command), "{command}: {commands:?}");
        }
        for group in ["key", "db", "token", "help", "key help"] {
            assert!(!commands.iter().any(|one| one == group), "{group}");
        }
    }
}
