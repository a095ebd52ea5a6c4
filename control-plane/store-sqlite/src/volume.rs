//! The volume of the data directory, and the free space on it that statistics leave.

use std::path::{Path, PathBuf};

use omniflow_store::StoreError;
use tokio::task::spawn_blocking;

/// What sorts may write between two checks, in bytes. SQLite writes a sort in parts of 1 MiB; while it merges the parts, it
/// does not return to the check and writes at most 1/32 of the sort again (`vdbeIncrMergerNew` in its vdbesort.c).
const SORT_MARGIN: u64 = 64 << 20;

/// The volume of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    directory: PathBuf,
    /// Free space that is reserved for changes to keys, in bytes.
    reserve: u64,
}

impl Volume {
    /// The volume of this directory.
    pub(crate) fn new(directory: PathBuf, reserve: u64) -> Self {
        Self { directory, reserve }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What an unprivileged process can use, in bytes; `None` if that cannot be determined.
    pub(crate) async fn free_bytes(&self) -> Option<u64> {
        let volume = self.clone();
        spawn_blocking(move || volume.free_bytes_now()).await.ok().flatten()
    }

    /// Whether there is room for temporary files.
    pub(crate) async fn has_room_for_sorts(&self) -> bool {
        self.is_enough(self.free_bytes().await)
    }

    /// The same on a thread that may block.
    pub(crate) fn has_room_now(&self) -> bool {
        self.is_enough(self.free_bytes_now())
    }

    /// The error if there is no room for temporary files.
    pub(crate) fn low_space(&self) -> StoreError {
        StoreError::LowSpace { needed_bytes: self.needed_bytes() }
    }

    fn needed_bytes(&self) -> u64 {
        self.reserve.saturating_add(SORT_MARGIN)
    }

    fn is_enough(&self, free: Option<u64>) -> bool {
        free.is_none_or(|free| free >= self.needed_bytes())
    }

    fn free_bytes_now(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.directory).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
