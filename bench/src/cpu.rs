//! CPU time of a process.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The CPU time of all current threads of a process, in user and kernel mode. It comes from the scheduler's statistics,
/// which count nanoseconds (`schedstat` in proc(5)); `/proc/PID/stat` counts hundredths of a second.
pub(crate) fn time_of(process: u32) -> Result<Duration> {
    let mut nanoseconds = 0u64;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end between the two reads.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let on_processor = text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
        nanoseconds += on_processor.context("this kernel does not provide schedstat")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time() {
        let before = time_of(std::process::id()).unwrap();
        let mut sum = 0u64;
        while time_of(std::process::id()).unwrap() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }
}
