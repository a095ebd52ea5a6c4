//! The `omf` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    omniflow_service::memory::keep_little();
    omf::commands::main()
}
