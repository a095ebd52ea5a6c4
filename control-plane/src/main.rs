//! The `omf` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    omniflow_control_plane::service::memory::keep_little();
    omniflow_control_plane::commands::main()
}
