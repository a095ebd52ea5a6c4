//! Logs rejected calls of gateways. A gateway with an invalid token looks as if it did not exist, so only the control
//! plane can inform the operator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use omniflow_policy::time::UnixMillis;

use super::rejection::Rejection;

/// The interval in which a reason is logged only once: invalid tokens must not fill the disk.
const QUIET_MS: u64 = 60_000;

/// When each reason was last logged, and how often it was suppressed since.
#[derive(Debug, Default)]
pub struct RejectionLog(Mutex<BTreeMap<Rejection, Logged>>);

#[derive(Debug)]
struct Logged {
    at: UnixMillis,
    kept_back: u64,
}

// === impl RejectionLog ===

impl RejectionLog {
    /// Logs a rejected call, unless its reason was logged within the last minute.
    pub fn record(&self, reason: Rejection, peer: Option<SocketAddr>, now: UnixMillis) {
        let Some(kept_back) = self.due(reason, now) else { return };
        let peer = peer.map(tracing::field::display);
        tracing::warn!(peer, %reason, suppressed = kept_back, "gateway request rejected");
    }

    /// If the reason is to be logged now, the number of times it was suppressed before.
    fn due(&self, reason: Rejection, now: UnixMillis) -> Option<u64> {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The absolute difference: a clock that is set back must not silence this.
        if let Some(last) = logged.get_mut(&reason).filter(|last| now.0.abs_diff(last.at.0) < QUIET_MS) {
            last.kept_back += 1;
            return None;
        }
        Some(logged.insert(reason, Logged { at: now, kept_back: 0 }).map_or(0, |last| last.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_once_a_minute() {
        let log = RejectionLog::default();
        let due = |reason, now| log.due(reason, UnixMillis(now));
        assert_eq!(due(Rejection::NoToken, 100_000), Some(0));
        assert_eq!(due(Rejection::NoToken, 100_001), None);
        assert_eq!(due(Rejection::NoToken, 159_999), None);
        assert_eq!(due(Rejection::WrongRole, 159_999), Some(0));
        assert_eq!(due(Rejection::NoToken, 160_000), Some(2));
        assert_eq!(due(Rejection::NoToken, 90_000), Some(0), "the clock was set back");
    }
}
