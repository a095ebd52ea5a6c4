//! Stores when gateways were last seen, so that a restarted control plane waits for those that may still be live.

use std::time::Duration;

use tokio::time::sleep;

use crate::fleet::Fleet;
use crate::notifications::Notifications;
use omniflow_store::Store;

/// Minimum interval between two writes. A new gateway is stored within it.
const INTERVAL: Duration = Duration::from_secs(1);

/// Stores sightings of gateways until the process is asked to end. Polls do not wait for it.
pub async fn run_sightings(fleet: &Fleet, store: &dyn Store, notifications: &Notifications) {
    let mut heard = fleet.heard();
    let memorise = async || {
        if let Err(error) = fleet.memorise(&*store).await {
            tracing::warn!(%error, "storing gateways failed, enforcement would not wait for them after a restart");
        }
    };
    let until_stopped = async {
        loop {
            heard.mark_unchanged();
            memorise().await;
            // Not a wait for a condition: at most one write in this time, however many gateways call.
            sleep(INTERVAL).await;
            // An error would mean that the sender was dropped, but it lives as long as the fleet.
            let _ = heard.changed().await;
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = notifications.stopped() => {}
    }
    memorise().await;
}
