//! Notifications without data between parts of the process: a commit, or the end of the process.

use tokio::sync::watch;

/// Notifications that any part can send and wait for. A clone sends and receives the same notifications.
#[derive(Clone, Debug, Default)]
pub struct Notifications {
    /// Changes when a token is revoked. Open polls end, so that a gateway has to authenticate again.
    pub token_revoked: watch::Sender<()>,
    /// Changes when audit records are committed. Streams then read the new ones.
    pub audit_committed: watch::Sender<()>,
    /// Changes when an anomaly is committed. The webhook then sends the new ones.
    pub anomaly_committed: watch::Sender<()>,
    /// True once the process has been asked to stop. Pending waits then end.
    pub stopping: watch::Sender<bool>,
}

// === impl Notifications ===

impl Notifications {
    /// Waits until the process is asked to end.
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // An error would mean that the sender was dropped, but it lives as long as this value.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}
