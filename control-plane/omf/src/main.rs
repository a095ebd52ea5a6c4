//! The `omf` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    omf::commands::main()
}
