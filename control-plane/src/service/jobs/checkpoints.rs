//! Folds the write-ahead log of the keys into their database, beside the changes and not within one of them.
//!
//! Left to itself, SQLite has whoever commits the thousandth page do it before the commit returns, and all that wait behind
//! it wait too. And it is done often, in small pieces: the disk that is busy with a large one holds commits up as well.
//! The same goes for merging the segments that the index of names is written in.

use std::time::Duration;

use tokio::time::sleep;

use crate::service::signals::Signals;
use crate::storage::Storage;

/// The pause between two folds while changes go on. What was written is on the disk before: this keeps the log short.
const PAUSE: Duration = Duration::from_millis(20);

/// Folds the log and merges the index after each change, until the process is asked to end.
pub(crate) async fn run_checkpoints(storage: &Storage, signals: &Signals) {
    let until_stopped = async {
        loop {
            storage.main.committed().await;
            if let Err(error) = storage.main.checkpoint().await {
                tracing::warn!(%error, "the write-ahead log cannot be folded into the database and grows");
            }
            // What it merges is a change as well, so that this goes on until there is no more to merge.
            if let Err(error) = storage.main.writer().await.merge_search_segments().await {
                tracing::warn!(%error, "the index of names is not merged, and searches become slower");
            }
            // Not to wait for anything: at most one fold and one merge in this time.
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = signals.stopped() => {}
    }
}
