//! One control plane for the whole run of a target, in a folder in memory where there is one.

use std::path::Path;
use std::sync::OnceLock;

use omf::fuzzing::TestServer;
use tempfile::TempDir;

/// The control plane. Its folder goes with the process only where that ends by itself, so it lies below the
/// system's folder for temporary files.
pub fn plane() -> &'static TestServer {
    static SERVER: OnceLock<(TestServer, TempDir)> = OnceLock::new();
    let (plane, _) = SERVER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder");
        (TestServer::open(folder.path()), folder)
    });
    plane
}
