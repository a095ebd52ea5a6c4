//! `omf completions`.

use std::io::{ErrorKind, Write, stdout};

use clap::Args;
use clap_complete::Shell;

use super::args;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf completions bash > /etc/bash_completion.d/omf\n  \
    omf completions zsh > ~/.zfunc/_omf    # with fpath+=(~/.zfunc) before compinit in ~/.zshrc\n  \
    omf completions fish > ~/.config/fish/completions/omf.fish")]
pub(super) struct Completions {
    /// The shell that is to read it.
    shell: Shell,
}

pub(super) fn run(args: &Completions) -> anyhow::Result<()> {
    match stdout().write_all(&script(args.shell)) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "omf", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_learns_of_commands_and_options() {
        let bash = String::from_utf8(script(Shell::Bash)).unwrap();
        for words in
            ["active rotating revoked expired", "live test", "owner admin auditor gateway", "allowed denied"]
        {
            assert!(bash.contains(&format!("\"{words}\"")), "{words} are not offered");
        }
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            for word in ["rotate", "output-file", "token-file"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
