//! The reference of the command line, `docs/reference/cli.md`.

use clap::{Arg, ArgAction, Command};
use omniflow_golden::markdown::{self, table};
use omniflow_golden::reference;
use omniflow_policy::policy::{Policy, PolicyDocument};

use super::command;

#[test]
fn reference_lists_every_command() {
    let mut omf = command();
    omf.build();
    let commands = omniflow_cli::commands(command());
    let all: String = commands.iter().map(|(path, command)| section(path, command)).collect();
    let global: Vec<&Arg> = omf.get_arguments().filter(|argument| argument.is_global_set()).collect();
    reference::check(
        "cli.md",
        &[
            ("commands".to_owned(), overview(&commands)),
            ("global options".to_owned(), options(&global)),
            ("reference".to_owned(), all),
        ],
    );
}

#[test]
fn policy_examples_are_valid_and_equal() {
    let json =
        PolicyDocument::from_json(reference::example("policy-document.md", "json").as_bytes()).unwrap();
    let toml: PolicyDocument = toml::from_str(&reference::example("policy-document.md", "toml")).unwrap();
    assert_eq!(json, toml);
    Policy::compile(json).map(drop).unwrap();
}

/// The table of all commands that do something by themselves.
fn overview(commands: &[(String, Command)]) -> String {
    let rows = commands.iter().filter(|(_, command)| !command.is_subcommand_required_set()).map(
        |(path, command)| {
            vec![
                format!("[`omf {path}`](#omf-{})", path.replace(' ', "-")),
                markdown::text(&about(command).0),
            ]
        },
    );
    table(&["command", "description"], &rows.collect::<Vec<_>>())
}

/// A command: heading, description, usage, arguments, options, examples.
fn section(path: &str, command: &Command) -> String {
    let level = if path.contains(' ') { "###" } else { "##" };
    let (about, details) = about(command);
    let mut text = format!("{level} `omf {path}`\n\n{}.\n\n", markdown::text(about.trim_end_matches('.')));
    if command.is_subcommand_required_set() {
        return text;
    }
    for paragraph in &details {
        text.push_str(&format!("{}\n\n", markdown::text(paragraph)));
    }
    text.push_str(&format!("```text\n{}\n```\n\n", usage(command)));
    let own =
        |argument: &&Arg| !argument.is_global_set() && !argument.is_hide_set() && argument.get_id() != "help";
    let own: Vec<&Arg> = command.get_arguments().filter(own).collect();
    let (positional, named): (Vec<&Arg>, Vec<&Arg>) =
        own.into_iter().partition(|argument| argument.is_positional());
    for arguments in [positional, named] {
        if !arguments.is_empty() {
            text.push_str(&format!("{}\n", options(&arguments)));
        }
    }
    text.push_str(&format!("{}\n\n", global_options(command)));
    if let Some(after) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        text.push_str(&blocks(&after.to_string()));
    }
    text
}

/// The short description, and the further paragraphs of the long one.
fn about(command: &Command) -> (String, Vec<String>) {
    let short = command.get_about().map(ToString::to_string).unwrap_or_default();
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let paragraphs = long.split("\n\n").skip(1).map(|paragraph| paragraph.replace('\n', " "));
    (short, paragraphs.collect())
}

fn usage(command: &Command) -> String {
    let text = command.clone().render_usage().to_string();
    let lines = text.trim_start_matches("Usage:").lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// Which of the options that most commands take this one takes.
fn global_options(command: &Command) -> String {
    let visible = |one: &&Arg| one.is_global_set() && !one.is_hide_set();
    let names: Vec<&str> = command.get_arguments().filter(visible).filter_map(Arg::get_long).collect();
    match names.as_slice() {
        [] => "Accepts no [global options](#global-options).".to_owned(),
        ["json"] => "The only [global option](#global-options) that it accepts is `--json`.".to_owned(),
        _ => "Accepts all [global options](#global-options).".to_owned(),
    }
}

/// Arguments or options as a table. Columns in which every cell would be empty are left out.
fn options(arguments: &[&Arg]) -> String {
    let rows: Vec<[String; 4]> = arguments.iter().map(|argument| row(argument)).collect();
    let head = [
        if arguments[0].is_positional() { "argument" } else { "option" },
        "description",
        "default",
        "variable",
    ];
    let kept: Vec<usize> = (0..4).filter(|&column| rows.iter().any(|row| !row[column].is_empty())).collect();
    let cells = |row: &[String; 4]| kept.iter().map(|&column| row[column].clone()).collect();
    let head: Vec<&str> = kept.iter().map(|&column| head[column]).collect();
    table(&head, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn row(argument: &Arg) -> [String; 4] {
    let help =
        argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let (help, stated_variable) = without_note(&help, "env: ");
    let (help, stated_default) = without_note(&help, "default: ");
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let values: Vec<String> = match takes_value {
        true => {
            argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect()
        }
        false => Vec::new(),
    };
    let mut description = markdown::text(help.trim_end_matches('.'));
    if !values.is_empty() {
        description.push_str(&format!(". One of {}", values.join(", ")));
    }
    if argument.is_required_set() && !argument.is_positional() {
        description.push_str(". **Required**");
    }
    let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
    let default = stated_default.or_else(|| defaults.into_iter().next().filter(|_| takes_value));
    let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned()).or(stated_variable);
    let code = |text: Option<String>| text.map(|text| format!("`{text}`")).unwrap_or_default();
    // A default in words is not a value that can be typed.
    let default = match default {
        Some(text) if text.contains(' ') => markdown::text(&text),
        other => code(other),
    };
    [format!("`{}`", name(argument)), description, default, code(variable)]
}

/// What is typed: `--name <NAME>`.
fn name(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default().iter().map(|value| format!("<{value}>"));
    let values = values.collect::<Vec<_>>().join(" ");
    match argument.get_long() {
        None => values,
        Some(long) if argument.get_action().takes_values() => format!("--{long} {values}"),
        Some(long) => format!("--{long}"),
    }
}

/// Takes a note in brackets, such as `[default: 24h]`, out of a help text.
fn without_note(help: &str, kind: &str) -> (String, Option<String>) {
    let found = help.split_once(&format!("[{kind}")).and_then(|(before, rest)| {
        let (note, after) = rest.split_once(']')?;
        Some((format!("{}{after}", before.trim_end()), Some(note.to_owned())))
    });
    found.unwrap_or_else(|| (help.to_owned(), None))
}

/// The text after the options: indented lines are code.
fn blocks(text: &str) -> String {
    let mut out = String::new();
    let mut code: Vec<&str> = Vec::new();
    let mut paragraph: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        let is_code = line.starts_with("  ");
        if !is_code && !code.is_empty() {
            let language =
                if code[0].trim().starts_with("omf") || code[0].contains("omf ") { "sh" } else { "toml" };
            let lines = code.iter().map(|line| line.strip_prefix("  ").unwrap_or(line));
            out.push_str(&format!("```{language}\n{}\n```\n\n", lines.collect::<Vec<_>>().join("\n")));
            code.clear();
        }
        if (is_code || line.is_empty()) && !paragraph.is_empty() {
            out.push_str(&format!("{}\n\n", markdown::text(&paragraph.join(" "))));
            paragraph.clear();
        }
        match (is_code, line.is_empty()) {
            (true, _) => code.push(line),
            (false, true) => {}
            (false, false) => paragraph.push(line),
        }
    }
    out
}
