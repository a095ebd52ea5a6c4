//! `omf completions`.

use std::io::{ErrorKind, Write, stdout};

use clap::Args;
use clap_complete::Shell;

/// Arguments of `omf completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf completions bash > /etc/bash_completion.d/omf\n  \
    omf completions zsh > ~/.zfunc/_omf    # with fpath+=(~/.zfunc) before compinit in ~/.zshrc\n  \
    omf completions fish > ~/.config/fish/completions/omf.fish")]
pub struct Completions {
    /// Shell to generate the script for.
    shell: Shell,
}

impl Completions {
    /// Prints the completion script of the command `omf`.
    ///
    /// # Errors
    ///
    /// Fails if standard output cannot be written; a closed pipe is not an error.
    pub fn run(&self, omf: clap::Command) -> anyhow::Result<()> {
        match stdout().write_all(&script(self.shell, omf)) {
            // The reader closed the pipe.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }
}

fn script(shell: Shell, mut omf: clap::Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut omf, "omf", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::{Command, Subcommand, ValueEnum};

    use super::*;
    use crate::{ApiCommand, Globals};

    #[test]
    fn scripts_of_all_shells_contain_commands_and_options() {
        let omf = || Globals::augment_args(ApiCommand::augment_subcommands(Command::new("omf")));
        let bash = String::from_utf8(script(Shell::Bash, omf())).unwrap();
        for words in
            ["active rotating revoked expired", "live test", "owner admin auditor gateway", "allowed denied"]
        {
            assert!(bash.contains(&format!("\"{words}\"")), "{words} are missing");
        }
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell, omf())).unwrap();
            for word in ["rotate", "output-file", "token-file"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
