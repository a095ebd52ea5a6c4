//! What is asked of glibc's allocator: to keep little of what is free.

/// Has the allocator keep little of what is free. To be called before there is another thread.
///
/// With an arena for each few threads, as is usual, each keeps what its threads once needed at most: of 100 MiB that
/// `omf serve` took under load, 85 were free. Threads have small caches of their own, so they seldom meet in the one
/// arena.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        // What is larger has a mapping of its own, which ends with it, and so much may be free at the end of the arena:
        // 128 KiB, with which glibc begins, and from which it goes up by itself unless it is stated.
        const LARGE: libc::c_int = 128 * 1024;
        for (option, value) in
            [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
        {
            #[expect(unsafe_code, reason = "mallopt takes two numbers, and there is no other thread yet")]
            let _is_taken = unsafe { libc::mallopt(option, value) };
        }
    }
}

/// Returns free memory between allocations to the operating system, which the allocator keeps otherwise: 115 of 262 MiB
/// after the image of a million keys was built. Allocations wait meanwhile, some tens of milliseconds for that amount.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "malloc_trim takes a number and is safe in any thread")]
        let _has_given = unsafe { libc::malloc_trim(0) };
    }
}
