//! Detects gateways whose process ended with undelivered records, and adds a gap to the log for each.
//!
//! A gateway reports its progress with every batch, and once when it becomes quiescent. If its last report before it
//! falls silent is not quiescence, the records of its workers are lost. This cannot be distinguished from a gateway
//! that is cut off for a long time, so the gap is withdrawn if the gateway reappears.

use std::time::Duration;

use tokio::time::sleep;

use crate::fleet::Fleet;
use crate::notifications::Notifications;
use omniflow_store::{Store, StoreError};

/// How often gateways are checked.
const INTERVAL: Duration = Duration::from_secs(1);
/// Number of gateways that are checked together.
const AT_ONCE: usize = 10_000;

/// Checks gateways until the process is asked to end.
pub async fn run_gateway_loss(store: &dyn Store, notifications: &Notifications, fleet: &Fleet) {
    let until_stopped = async {
        loop {
            if let Err(error) = record_lost_gateways(store, notifications, fleet).await {
                tracing::warn!(%error, "detection of lost gateways failed, will retry");
            }
            // A lease has a precision of seconds; nothing waits for this.
            sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = notifications.stopped() => {}
    }
}

/// Records a gap for each lost gateway.
pub async fn record_lost_gateways(
    store: &dyn Store,
    notifications: &Notifications,
    fleet: &Fleet,
) -> Result<(), StoreError> {
    for open in store.open_gateways(AT_ONCE).await? {
        let Some(ended_at) = fleet.ended(&open.id, open.heard_at) else { continue };
        let mut transaction = store.begin_log().await?;
        let missing = transaction.lose_gateway(&open, ended_at).await?;
        transaction.commit().await?;
        if let Some(missing) = missing {
            notifications.audit_committed.send_replace(());
            tracing::warn!(
                gateway = %open.id,
                missing_at_least = missing,
                "gateway lost without being drained, its last calls are not in the audit log"
            );
        }
    }
    Ok(())
}
