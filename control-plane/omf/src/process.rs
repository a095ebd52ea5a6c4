//! What this process asks of the operating system for itself: no image of its memory on a disk, and no file that others
//! may read.

use std::ffi::OsStr;
use std::io;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// Set to 1, core dumps and debuggers work as the operating system has them.
pub(crate) const DEBUG_VARIABLE: &str = "OMF_ALLOW_CORE_DUMPS";

/// Takes from others what they need not have: files that are made are private to begin with, whoever makes them, SQLite
/// included, and the memory, with tokens and keys in it, is neither written to a core dump nor read by other processes of
/// the same user. `allow_dumps` is what [`DEBUG_VARIABLE`] holds.
///
/// What it cannot see to: pages that are swapped, and an administrator of the machine.
pub(crate) fn harden(allow_dumps: Option<&OsStr>) -> io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    if allow_dumps.is_some_and(|value| value == "1") {
        return Ok(());
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)?;
    // Also where a core dump is piped to a program, which has no limit of its size; and `ptrace` and /proc/PID/mem.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
