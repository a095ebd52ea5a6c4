//! Repartitions the image when it has too many keys per segment.

use crate::notifications::Notifications;
use crate::publisher::Publisher;

/// Repartitions the image whenever it has too many keys per segment, until the process is asked to stop.
pub async fn run_repartition(publisher: &Publisher, notifications: &Notifications) {
    let until_stopped = async {
        loop {
            publisher.until_repartition_needed().await;
            if let Err(error) = publisher.repartition().await {
                tracing::error!(%error, "image repartition failed, will retry after the next change");
            }
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = notifications.stopped() => {}
    }
}
