//! The `omf` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// SQLite's memory comes from it too (the feature `unprefixed_…`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What jemalloc reads at its start: one arena, and what is free in it goes back to the operating system within a second. With
/// an arena for each few threads, as glibc has them as well, each kept what its threads once needed at most: of 100 MiB that
/// `omf serve` took under load, 85 were free. Threads have small caches of their own, so they seldom meet in the arena.
#[expect(
    unsafe_code,
    reason = "nothing else has the name, which is jemalloc's, and its type is that of a C string"
)]
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: &[u8; 30] = b"narenas:1,dirty_decay_ms:1000\0";

fn main() -> ExitCode {
    omniflow_control_plane::cli::main()
}
