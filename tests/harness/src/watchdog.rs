//! Kills the child processes if this process itself is killed.
//!
//! `PR_SET_PDEATHSIG` would have to be set between fork and exec, which is unsafe code, it fires when the *thread* that
//! started the child ends, and only Linux has it. A small shell that reads from a pipe avoids this: the pipe is closed
//! whenever this process ends, and the shell then kills the process groups that are still listed.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};

/// Reads `+ GROUP` and `- GROUP`; at the end of the input, kills the groups that were added and not removed.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
groups=
while read -r sign group; do
    rest=
    for other in $groups; do
        [ "$other" = "$group" ] || rest="$rest $other"
    done
    groups=$rest
    [ "$sign" = + ] && groups="$groups $group"
done
for group in $groups; do
    kill -s KILL -- "-$group"
done
"#;

/// The shell that outlives this process.
pub(crate) struct Watchdog {
    input: Mutex<ChildStdin>,
    /// Kept only to mark it as a child of this process; it ends by itself afterwards.
    _shell: Child,
}

impl Watchdog {
    fn start() -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A separate group: signals from a terminal to the group of this process must not end it.
            .process_group(0)
            .spawn()
            .context("cannot start /bin/sh, which watches over the processes started here")?;
        let input = shell.stdin.take().context("the watching shell has no input")?;
        Ok(Self { input: Mutex::new(input), _shell: shell })
    }

    /// From now on, the group is killed when this process ends.
    pub(crate) fn watch(&self, group: u32) {
        self.tell('+', group);
    }

    /// This process has ended the group, so its number may be reused by other processes.
    pub(crate) fn forget(&self, group: u32) {
        self.tell('-', group);
    }

    fn tell(&self, sign: char, group: u32) {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        // If the shell was killed, this process can only continue without it.
        let _ = writeln!(input, "{sign} {group}");
    }
}

/// The one watchdog of this process.
pub(crate) fn watchdog() -> Result<&'static Watchdog> {
    static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if WATCHDOG.get().is_none() {
        let _ = WATCHDOG.set(Watchdog::start()?);
    }
    WATCHDOG.get().context("the watchdog is not there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").process_group(0).spawn().unwrap()
    }

    #[test]
    fn what_is_watched_dies_with_the_pipe_and_what_is_forgotten_lives() {
        let dog = Watchdog::start().unwrap();
        let (mut watched, mut forgotten) = (sleeper(), sleeper());
        dog.watch(watched.id());
        dog.watch(forgotten.id());
        dog.forget(forgotten.id());
        drop(dog);
        assert_eq!(watched.wait().unwrap().signal(), Some(9));
        assert!(forgotten.try_wait().unwrap().is_none());
        forgotten.kill().unwrap();
        forgotten.wait().unwrap();
    }
}
