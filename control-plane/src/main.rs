//! The `omf` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    give_memory_back();
    omniflow_control_plane::cli::main()
}

/// Has glibc's allocator keep little of what is free. With an arena for each few threads, as is usual, each keeps what its threads
/// once needed at most: of 100 MiB that `omf serve` took under load, 85 were free. Threads have small caches of their own, so
/// they seldom meet in the one arena.
#[cfg(target_env = "gnu")]
fn give_memory_back() {
    // What is larger has a mapping of its own, which ends with it, and so much may be free at the end of the arena: 128 KiB,
    // with which glibc begins, and from which it goes up by itself unless it is stated.
    const LARGE: libc::c_int = 128 * 1024;
    for (option, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
    {
        #[expect(unsafe_code, reason = "mallopt takes two numbers, and there is no other thread yet")]
        let _is_taken = unsafe { libc::mallopt(option, value) };
    }
}
