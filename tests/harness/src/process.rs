//! A child process in a separate process group, with its output in a file. It cannot outlive this process.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::watchdog::watchdog;

/// Time that a dropped process has to end by itself.
const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// A running child. Dropping it ends its whole process group and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    group: Pid,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command`; standard output and error are appended to the file `log`.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let dog = watchdog()?;
        let output = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", command.get_program().display()))?;
        dog.watch(child.id());
        let group = Pid::from_child(&child);
        Ok(Self { name: name.to_owned(), log: log.to_owned(), group, child: Mutex::new(child) })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.lock().id()
    }

    /// A path in the mount namespace of the process, which may have mounted other file systems.
    pub fn path(&self, path: &Path) -> PathBuf {
        Path::new("/proc")
            .join(self.id().to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Its exit status, if it has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.lock().try_wait().ok().flatten()
    }

    /// Pauses it (SIGSTOP): its peers see a host that hangs.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Resumes it after [`Process::pause`].
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends it a SIGHUP, on which many servers reload their files.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// Asks it to stop, waits for `grace`, then kills it. Returns its exit status.
    pub fn stop(&self, grace: Duration) -> Result<ExitStatus> {
        if self.exit_status().is_none() {
            // A signal to a group with only a zombie left fails; the wait below handles that.
            let _ = self.signal(Signal::TERM);
            let _ = self.signal(Signal::CONT);
        }
        self.wait(grace).map_or_else(|| self.kill(), Ok)
    }

    /// Kills it immediately, like a crash of the host.
    pub fn kill(&self) -> Result<ExitStatus> {
        if self.exit_status().is_none() {
            let _ = self.signal(Signal::KILL);
        }
        self.forget();
        Ok(self.lock().wait()?)
    }

    /// Waits until it ends by itself.
    pub fn wait(&self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exit_status() {
                self.forget();
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            // Pause between two checks, up to the deadline.
            std::thread::sleep(POLL);
        }
    }

    /// The file for its output.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last `lines` lines of its output.
    pub fn log_end(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process_group(self.group, signal)
            .with_context(|| format!("cannot send {signal:?} to {} ({:?})", self.name, self.group))
    }

    fn forget(&self) {
        if let Ok(dog) = watchdog() {
            dog.forget(self.group.as_raw_nonzero().get().unsigned_abs());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop(GRACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn shell(script: &str, folder: &Path) -> Process {
        Process::spawn("a shell", Command::new("/bin/sh").args(["-c", script]), &folder.join("log")).unwrap()
    }

    #[test]
    fn output_is_kept_and_the_end_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell("echo one; echo two >&2; exit 3", folder.path());
        assert_eq!(process.wait(Duration::from_secs(5)).unwrap().code(), Some(3));
        assert_eq!(process.log(), "one\ntwo\n");
        assert_eq!(process.log_end(1), "two");
    }

    #[test]
    fn a_process_that_ignores_the_polite_signal_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell("trap '' TERM; echo ready; while :; do sleep 600; done", folder.path());
        let ready = Instant::now() + Duration::from_secs(5);
        while process.log().is_empty() && Instant::now() < ready {
            // Pause between two checks, up to the deadline.
            std::thread::sleep(POLL);
        }
        assert_eq!(process.stop(Duration::from_millis(50)).unwrap().signal(), Some(9));
    }

    #[test]
    fn a_paused_process_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell("exec sleep 600", folder.path());
        process.pause().unwrap();
        assert_eq!(process.stop(Duration::from_secs(5)).unwrap().signal(), Some(15));
    }
}
