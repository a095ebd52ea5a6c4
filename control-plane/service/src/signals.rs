//! What parts of the process tell each other without data: something was committed, or the process ends.

use tokio::sync::watch;

/// Signals that any part can send and wait for. A clone sends and receives the same signals.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Changes when a token was revoked. Open polls end, so that a gateway has to authenticate anew.
    pub token_revoked: watch::Sender<()>,
    /// Changes when audit records were committed. Streams read what is new.
    pub audit_committed: watch::Sender<()>,
    /// Changes when an anomaly was committed. The webhook gets what is new.
    pub finding_committed: watch::Sender<()>,
    /// True once the process has been asked to end. Whoever waits stops waiting.
    pub stopping: watch::Sender<bool>,
}

// === impl Signals ===

impl Signals {
    /// Waits until the process is asked to end.
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // An error would mean that the sender is gone; it lives as long as this.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}
