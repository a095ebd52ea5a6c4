//! Finds the gateways whose process is gone with records that it had not delivered: the log gets a gap for each.
//!
//! A gateway says with every batch how far it has come, and once when it is quiescent. One that falls silent after another
//! word than that took along what its workers held. Nobody can tell that from a gateway which is cut off for longer; so
//! the gap is withdrawn when one is heard of again.

use std::time::Duration;

use tokio::time::sleep;

use crate::fleet::Fleet;
use crate::notifications::Notifications;
use omniflow_store::{Store, StoreError};

/// How often gateways are checked.
const INTERVAL: Duration = Duration::from_secs(1);
/// Gateways that are checked in one go.
const AT_ONCE: usize = 10_000;

/// Checks gateways until the process is asked to end.
pub async fn run_gateway_loss(store: &dyn Store, notifications: &Notifications, fleet: &Fleet) {
    let until_stopped = async {
        loop {
            if let Err(error) = record_lost_gateways(store, notifications, fleet).await {
                tracing::warn!(%error, "detection of lost gateways failed, will retry");
            }
            // A lease has whole seconds; nothing waits for this.
            sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = notifications.stopped() => {}
    }
}

/// Records a gap for each gateway that is gone by now.
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
