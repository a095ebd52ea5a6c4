//! Gateways whose polls are cut off by a proxy between them and the control plane.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a gateway is counted after its last poll.
const MAX_AGE: Duration = Duration::from_secs(300);
/// Maximum number of gateways that are tracked.
const MAX_GATEWAYS: usize = 10_000;

/// Gateways that report cut polls, by name.
#[derive(Debug, Default)]
pub(super) struct CutPolls(Mutex<HashMap<String, (Instant, u64)>>);

/// Gateways whose polls are cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutPollStatus {
    /// Number of such gateways.
    pub gateways: u64,
    /// The shortest time after which a poll is cut off, in milliseconds; 0 if there is no such gateway.
    pub shortest_ms: u64,
}

// === impl CutPolls ===

impl CutPolls {
    /// Records a poll, and the time after which the gateway reports that its polls are cut off.
    pub(super) fn polled(&self, gateway: &str, cut_after_ms: Option<u64>) {
        let mut gateways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(after) = cut_after_ms else {
            gateways.remove(gateway);
            return;
        };
        if gateways.len() >= MAX_GATEWAYS {
            gateways.retain(|_, (at, _)| at.elapsed() < MAX_AGE);
        }
        if gateways.len() < MAX_GATEWAYS || gateways.contains_key(gateway) {
            gateways.insert(gateway.to_owned(), (Instant::now(), after));
        }
    }

    pub(super) fn status(&self) -> CutPollStatus {
        let mut gateways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.retain(|_, (at, _)| at.elapsed() < MAX_AGE);
        CutPollStatus {
            gateways: u64::try_from(gateways.len()).unwrap_or(u64::MAX),
            shortest_ms: gateways.values().map(|(_, after)| *after).min().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gateway_counts_while_it_reports() {
        let cut = CutPolls::default();
        cut.polled("a", Some(15_000));
        cut.polled("b", Some(9_000));
        cut.polled("c", None);
        assert_eq!(cut.status(), CutPollStatus { gateways: 2, shortest_ms: 9_000 });
        cut.polled("b", None);
        assert_eq!(cut.status(), CutPollStatus { gateways: 1, shortest_ms: 15_000 });
        tokio::time::advance(MAX_AGE).await;
        assert_eq!(cut.status(), CutPollStatus::default());
    }
}
