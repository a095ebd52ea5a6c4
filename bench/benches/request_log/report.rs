//! The figures, printed as they are measured.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

/// Collects the figures that miss their bound.
#[derive(Default)]
pub(crate) struct Report {
    missed: Vec<String>,
}

/// The durations of repeated runs.
pub(crate) struct Timings {
    sorted: Vec<Duration>,
}

// === impl Report ===

impl Report {
    /// Prints a figure that has no bound.
    pub(crate) fn add(&self, what: &str, measured: impl fmt::Display) {
        println!("  {what}: {measured}");
    }

    /// Prints a figure and its bound.
    pub(crate) fn check(&mut self, what: &str, measured: impl fmt::Display, bound: &str, is_met: bool) {
        let line = format!("{what}: {measured} (bound: {bound})");
        println!("  {line}{}", if is_met { "" } else { " MISSED" });
        if !is_met {
            self.missed.push(line);
        }
    }

    /// Fails if a bound was missed.
    pub(crate) fn finish(self) -> Result<()> {
        ensure!(self.missed.is_empty(), "bounds missed:\n{}", self.missed.join("\n"));
        Ok(())
    }
}

// === impl Timings ===

impl Timings {
    /// Takes durations in any order.
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self { sorted: durations }
    }

    /// The duration that this share of the runs, in percent, did not exceed. Zero if there was no run.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let place = (self.sorted.len() * percent / 100).min(self.sorted.len().saturating_sub(1));
        self.sorted.get(place).copied().unwrap_or_default()
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p95, p99, max] = [50, 95, 99, 100].map(|percent| self.percentile(percent));
        write!(f, "p50 {p50:.1?}, p95 {p95:.1?}, p99 {p99:.1?}, max {max:.1?} of {}", self.sorted.len())
    }
}
