//! Failing disks and files of the control plane, while clients keep calling.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use omniflow_harness::{Stack, StackOptions};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, getuid, prlimit};

use super::observer::{Observer, keys, nothing_lost};
use super::table::note_seen;
use super::{SOME, refused_write, writes_arrive};

/// A process that exceeds its file size limit gets a signal. The wrapper ignores that signal and the control plane inherits
/// this, so that writing fails with EFBIG, as on a full disk.
fn with_writes_that_fail_quietly() -> StackOptions {
    let wrapper = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    StackOptions { control_plane_wrapper: wrapper, ..StackOptions::workers(2) }
}

/// Limits the size of all files that the process writes.
fn limit_files(stack: &Stack, bytes: Option<u64>) {
    let process = Pid::from_raw(i32::try_from(stack.control_plane.process().id()).unwrap());
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(process, Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full() {
    let stack = Stack::start(with_writes_that_fail_quietly()).await.unwrap();
    let keys = keys(&stack).await;
    let observer = Observer::start(stack.envoy.port(), &keys);
    observer.passed(SOME).await.unwrap();
    // This also prevents writes to its log.
    limit_files(&stack, Some(1));
    for attempt in 0..3 {
        assert_eq!(refused_write(&stack, &format!("refused-{attempt}")).await, 500);
    }
    observer.passed(3 * SOME).await.unwrap();
    assert!(stack.control_plane.get("/v1/keys").await.is_ok(), "what is there can be read");
    assert!(stack.control_plane.process().exit_status().is_none());
    limit_files(&stack, None);
    writes_arrive(&stack, "later").await;
    observer.passed(SOME).await.unwrap();
    let seen = observer.stop().await;
    seen.holds().all_passed();
    nothing_lost(&stack).await;
    let names = stack.control_plane.list("/v1/keys").await.unwrap();
    assert!(!names.iter().any(|key| key["name"].as_str().unwrap().starts_with("refused-")));
    note_seen("control plane's disk full", &seen);
}

/// Revokes write permission from the control plane's user. If the tests run as root, the control plane runs as another user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_written() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let keys = keys(&stack).await;
    let observer = Observer::start(stack.envoy.port(), &keys);
    observer.passed(SOME).await.unwrap();
    stack.control_plane.stop().unwrap();
    let folder = stack.control_plane.folder().to_owned();
    modes(&stack, &folder, 0o555, 0o444);
    if getuid().is_root() {
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
        stack.control_plane.options_mut().wrapper = nobody.to_vec();
    }
    let refused = stack.control_plane.restart().await.unwrap_err();
    let said = format!("{refused:#}").to_lowercase();
    assert!(said.contains("permission denied") || said.contains("not permitted"), "{said}");
    observer.passed(SOME).await.unwrap();
    modes(&stack, &folder, 0o700, 0o600);
    stack.control_plane.options_mut().wrapper = Vec::new();
    stack.control_plane.restart().await.unwrap();
    writes_arrive(&stack, "later").await;
    let seen = observer.stop().await;
    seen.holds().all_passed();
    nothing_lost(&stack).await;
    note_seen("database read-only", &seen);
}

fn modes(stack: &Stack, folder: &Path, of_folder: u32, of_files: u32) {
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(stack.folder(), 0o755);
    for entry in fs::read_dir(folder).unwrap() {
        set(&entry.unwrap().path(), of_files);
    }
    set(folder, of_folder);
}

/// Another process that holds the write lock of both databases, until the test releases it.
struct Holder(Child);

impl Holder {
    fn take(folder: &Path) -> Self {
        const SCRIPT: &str = "
import sqlite3, sys
held = [sqlite3.connect(path, isolation_level=None, timeout=30) for path in sys.argv[1:]]
for one in held: one.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.readline()
";
        let files = ["omniflow.db", "audit.db"].map(|name| folder.join(name));
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "held");
        Self(child)
    }

    fn let_go(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_another_process_has_locked() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let keys = keys(&stack).await;
    let observer = Observer::start(stack.envoy.port(), &keys);
    observer.passed(SOME).await.unwrap();
    let folder = stack.control_plane.folder().to_owned();
    let holder = tokio::task::spawn_blocking(move || Holder::take(&folder)).await.unwrap();
    // Fails after five seconds, the time for which a writer waits.
    assert_eq!(refused_write(&stack, "refused").await, 500);
    observer.passed(SOME).await.unwrap();
    assert!(stack.control_plane.get("/v1/keys").await.is_ok(), "what is there can be read");
    holder.let_go();
    writes_arrive(&stack, "later").await;
    observer.passed(SOME).await.unwrap();
    let seen = observer.stop().await;
    seen.holds().all_passed();
    nothing_lost(&stack).await;
    note_seen("database locked by another process", &seen);
}
