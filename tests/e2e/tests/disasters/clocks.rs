//! Wall clocks of the control plane and the gateway that jump by an hour, forwards and backwards.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use omniflow_harness::{Stack, StackOptions};
use tempfile::TempDir;

use super::observer::{Observer, keys, nothing_lost};
use super::table::note_seen;
use super::{SOME, writes_arrive};

const SHIM: &str = include_str!("clock_shim.c");
const HOUR: i64 = 3_600;

/// A library that shifts the clock of a process, and the file that contains the seconds.
struct Clock {
    library: PathBuf,
    offset: PathBuf,
    _folder: TempDir,
}

impl Clock {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("clock_shim.c"), folder.path().join("clock_shim.so"));
        fs::write(&source, SHIM).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        assert!(built.unwrap().success());
        let offset = folder.path().join("offset");
        fs::write(&offset, 0i64.to_le_bytes()).unwrap();
        Self { library, offset, _folder: folder }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &PathBuf| path.display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("OMF_TEST_CLOCK".to_owned(), text(&self.offset)),
        ]
    }

    /// Writes in place, because the process has mapped the file.
    fn jump(&self, seconds: i64) {
        File::options()
            .write(true)
            .open(&self.offset)
            .unwrap()
            .write_all_at(&seconds.to_le_bytes(), 0)
            .unwrap();
    }
}

async fn jump(fault: &str, of_gateway: bool, seconds: i64) {
    let clock = Clock::new();
    let mut options = StackOptions::workers(2);
    if of_gateway {
        options.envoy_environment = clock.environment();
    } else {
        options.control_plane_environment = clock.environment();
    }
    let stack = Stack::start(options).await.unwrap();
    let keys = keys(&stack).await;
    let observer = Observer::start(stack.envoy.port(), &keys);
    observer.passed(SOME).await.unwrap();
    clock.jump(seconds);
    observer.passed(2 * SOME).await.unwrap();
    writes_arrive(&stack, "meanwhile").await;
    clock.jump(0);
    observer.passed(SOME).await.unwrap();
    writes_arrive(&stack, "later").await;
    let seen = observer.stop().await;
    seen.holds().all_passed();
    nothing_lost(&stack).await;
    note_seen(fault, &seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_is_ahead() {
    jump("control plane's clock one hour ahead", false, HOUR).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_is_behind() {
    jump("control plane's clock one hour behind", false, -HOUR).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_is_ahead() {
    jump("gateway's clock one hour ahead", true, HOUR).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_is_behind() {
    jump("gateway's clock one hour behind", true, -HOUR).await;
}
