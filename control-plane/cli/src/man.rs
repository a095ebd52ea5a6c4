//! `omf man`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::PossibleValue;
use clap::{Arg, Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::command_list::commands;

/// Exit codes and their meaning.
const EXIT_CODES: [(&str, &str); 4] = [
    ("0", "The command succeeded."),
    ("1", "The command failed, or the control plane rejected it."),
    ("2", "The usage is incorrect."),
    ("3", "The change succeeded, but some gateways do not enforce it yet."),
];

/// Arguments of `omf man`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  omf man /usr/local/share/man/man1")]
pub struct ManualPages {
    /// Directory for the pages, one per command; created if missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl ManualPages {
    /// Writes the pages of the command `omf` and of all its subcommands.
    ///
    /// # Errors
    ///
    /// Fails if the directory or a page cannot be written.
    #[expect(clippy::disallowed_methods, reason = "commands are synchronous")]
    pub fn run(&self, omf: Command) -> anyhow::Result<()> {
        let pages = pages(omf)?;
        std::fs::create_dir_all(&self.directory).with_context(|| write_error(&self.directory))?;
        for (name, page) in &pages {
            let path = self.directory.join(name);
            std::fs::write(&path, page).with_context(|| write_error(&path))?;
        }
        eprintln!("Wrote {} pages to {}.", pages.len(), self.directory.display());
        Ok(())
    }
}

fn write_error(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// All pages with their file names, such as `omf-key-create.1`.
fn pages(omf: Command) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let version = format!("omf {}", omf.get_version().unwrap_or_default());
    let mut root = without_help_command(omf);
    root.build();
    let inner = commands(root.clone()).into_iter();
    let all = std::iter::once((String::new(), root)).chain(inner);
    all.map(|(path, command)| {
        let name = format!("omf {path}").trim_end().replace(' ', "-");
        Ok((format!("{name}.1"), page(&path, &name, command, &version)?))
    })
    .collect()
}

/// A group of commands would otherwise refer to a page about its command `help`.
fn without_help_command(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help_command)
}

/// The page of the command with this path and name; the path of `omf` itself is empty.
fn page(path: &str, name: &str, command: Command, version: &str) -> anyhow::Result<Vec<u8>> {
    let after = command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string);
    let is_group = command.has_subcommands();
    let command = command.subcommand_help_heading("COMMANDS").mut_args(in_one_paragraph);
    let mut page = Vec::new();
    // Without a date, so that the pages of a version are always the same.
    Roff::new().control("TH", [name, "1", r#""""#, version, "Omniflow Keys"]).to_writer(&mut page)?;
    let man = Man::new(command);
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if is_group {
        man.render_subcommands_section(&mut page)?;
    }
    let mut end = Roff::new();
    notes(&mut end, &after.unwrap_or_default());
    if path.is_empty() {
        exit_status(&mut end);
    } else {
        see_also(&mut end, path);
    }
    end.to_writer(&mut page)?;
    Ok(page)
}

/// An option whose description, with its possible values, is one paragraph: an empty line would end its indentation.
fn in_one_paragraph(option: Arg) -> Arg {
    let help = option.get_long_help().or_else(|| option.get_help()).map(ToString::to_string);
    let help = help.unwrap_or_default();
    let mut help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let values = option.get_possible_values();
    if !values.is_empty() {
        let values: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
        help = format!("{}. One of {}.", help.trim_end_matches('.'), values.join(", "));
    }
    option.long_help(help).hide_possible_values(true)
}

/// The text after the options. What follows "Examples:" has a section of its own.
fn notes(roff: &mut Roff, text: &str) {
    let (mut notes, mut examples) = (Vec::new(), Vec::new());
    let mut is_example = false;
    for line in text.lines() {
        match line {
            "Example:" | "Examples:" => is_example = true,
            _ if is_example && line.starts_with(' ') => examples.push(line),
            _ => {
                is_example = false;
                notes.push(line);
            }
        }
    }
    for (heading, lines) in [("NOTES", notes), ("EXAMPLES", examples)] {
        if lines.iter().any(|line| !line.is_empty()) {
            roff.control("SH", [heading]);
            section(roff, &lines);
        }
    }
}

/// Paragraphs, and indented lines as they are.
fn section(roff: &mut Roff, lines: &[&str]) {
    let blocks = lines.split(|line| line.is_empty());
    let blocks = blocks.flat_map(|block| block.chunk_by(|one, next| is_code(one) == is_code(next)));
    for (number, block) in blocks.enumerate() {
        // The heading separates the first paragraph.
        if number > 0 {
            roff.control("PP", []);
        }
        let is_code = block.first().is_some_and(|line| is_code(line));
        if is_code {
            roff.control("RS", ["4"]).control("nf", []);
        }
        for line in block {
            roff.text([roman(line.trim_start())]);
        }
        if is_code {
            roff.control("fi", []).control("RE", []);
        }
    }
}

fn is_code(line: &str) -> bool {
    line.starts_with(' ')
}

fn exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        roff.control("TP", []).text([bold(code)]).text([roman(meaning)]);
    }
}

/// The pages of the groups that contain the command, and the one of `omf`.
fn see_also(roff: &mut Roff, path: &str) {
    let words: Vec<&str> = path.split(' ').collect();
    let pages = (0..words.len()).map(|count| [&["omf"], words.get(..count).unwrap_or_default()].concat());
    let pages: Vec<String> = pages.map(|words| format!("{}(1)", words.join("-"))).collect();
    roff.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
}

#[cfg(test)]
mod tests {
    use clap::Subcommand as _;

    use super::*;
    use crate::{ApiCommand, Globals};

    fn rendered() -> Vec<(String, String)> {
        let omf =
            Globals::augment_args(ApiCommand::augment_subcommands(Command::new("omf").version("1.2.3")));
        let pages = pages(omf).unwrap().into_iter();
        pages.map(|(name, page)| (name, String::from_utf8(page).unwrap())).collect()
    }

    fn find<'a>(pages: &'a [(String, String)], name: &str) -> &'a str {
        &pages.iter().find(|(one, _)| one == name).unwrap().1
    }

    #[test]
    fn groups_and_commands_have_pages_that_refer_to_each_other() {
        let pages = rendered();
        let group = find(&pages, "omf-key.1");
        assert!(group.contains(".SH COMMANDS") && group.contains("omf\\-key\\-create(1)"), "{group}");
        assert!(!pages.iter().any(|(name, page)| name.contains("help") || page.contains("\\-help(1)")));
        let create = find(&pages, "omf-key-create.1");
        assert!(create.contains("One of live, test."), "{create}");
        assert!(create.contains(".TH omf-key-create 1"), "{create}");
        assert!(create.ends_with(".SH \"SEE ALSO\"\nomf(1), omf\\-key(1)\n"), "{create}");
        assert!(find(&pages, "omf.1").contains("omf 1.2.3"));
    }

    #[test]
    fn page_contains_options_variables_examples_and_notes() {
        let pages = rendered();
        let stats = find(&pages, "omf-audit-stats.1");
        for text in [
            ".SH \"GLOBAL OPTIONS\"",
            "OMF_TOKEN_FILE",
            ".SH NOTES\nLatencies are rounded down",
            ".SH EXAMPLES\n.RS 4\n.nf\nomf audit stats",
        ] {
            assert!(stats.contains(text), "{text}: {stats}");
        }
    }

    #[test]
    fn notes_around_examples_stay_paragraphs() {
        let mut roff = Roff::new();
        notes(&mut roff, "First.\n\nThe file:\n  a = 1\n\nExamples:\n  omf x\n  omf y\n\nLast.");
        assert_eq!(
            roff.to_roff(),
            ".SH NOTES\nFirst.\n.PP\nThe file:\n.PP\n.RS 4\n.nf\na = 1\n.fi\n.RE\n.PP\nLast.\n\
             .SH EXAMPLES\n.RS 4\n.nf\nomf x\nomf y\n.fi\n.RE\n"
        );
    }
}
