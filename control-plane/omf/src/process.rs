//! Process settings: no core dumps, private file permissions by default, and an allocator that keeps little free memory.

use std::ffi::OsStr;
use std::io;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// The environment variable that keeps core dumps and debuggers enabled if set to 1.
pub(crate) const DEBUG_VARIABLE: &str = "OMF_ALLOW_CORE_DUMPS";

/// Protects secrets in files and memory. New files are private by default, including those that SQLite creates. The memory,
/// which contains tokens and keys, is neither written to core dumps nor readable by other processes of the same user.
/// `allow_dumps` is the value of [`DEBUG_VARIABLE`].
///
/// It does not protect against swapped pages or an administrator of the machine.
pub(crate) fn harden(allow_dumps: Option<&OsStr>) -> io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    if allow_dumps.is_some_and(|value| value == "1") {
        return Ok(());
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)?;
    // Also prevents core dumps that are piped to a program, which have no size limit, `ptrace` and /proc/PID/mem.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Makes the allocator keep little free memory. Must be called while there is one thread.
///
/// By default, glibc has several arenas per core, and each keeps the peak of its threads: of the 100 MiB that
/// `omf serve` occupied under load, 85 MiB were free. Threads have their own small caches, so they rarely contend for
/// the only arena. Has no effect with musl.
pub(crate) fn configure_allocator() {
    #[cfg(target_env = "gnu")]
    {
        // Larger allocations have their own mapping, which is unmapped when they are freed; and this much may be free at
        // the end of the arena. glibc starts with 128 KiB, but raises both by itself unless they are set.
        const LARGE: libc::c_int = 128 * 1024;
        for (option, value) in
            [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
        {
            #[expect(unsafe_code, reason = "mallopt takes two numbers, and there is no other thread yet")]
            let _is_taken = unsafe { libc::mallopt(option, value) };
        }
    }
}

/// Returns free memory between allocations to the operating system; otherwise, the allocator keeps it: 115 of 262 MiB
/// after the image of a million keys was built. Allocations wait meanwhile, some tens of milliseconds for that amount. Has no
/// effect with musl.
pub(crate) fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "malloc_trim takes a number and is safe in any thread")]
        let _has_given = unsafe { libc::malloc_trim(0) };
    }
}
