//! Runs the background upkeep of the store.

use crate::notifications::Notifications;
use omniflow_store::Store;

/// Runs the store's upkeep until the process is asked to end.
pub async fn run_maintenance(store: &dyn Store, notifications: &Notifications) {
    tokio::select! {
        () = store.maintain() => {}
        () = notifications.stopped() => {}
    }
}
