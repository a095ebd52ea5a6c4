//! What is known about the last commit of a kind of transaction.
//!
//! If the network is cut during a commit, the client does not learn whether the server committed. If the change were reported
//! as failed and is in the database, this process would publish the state before it. So each transaction stores its
//! identifier. The client queries it immediately and, if the server is unreachable, again before the next transaction. The
//! check is also correct after a failover: a server without the change does not have its identifier.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use omniflow_store::encoding::Columns;
use omniflow_store::{Result, StoreError};

use crate::connection::Connection;
use crate::database::Database;

/// How long a commit waits for its outcome.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(200);
/// The state in memory is stale. Only a restart reads it again.
const LOST: &str = "a change that was reported as failed is committed: restart omf serve";

/// The last commit, and whether its outcome is in doubt.
#[derive(Debug, Default)]
pub(crate) struct LastCommit {
    /// The identifier of the change, if its outcome was not reported, or was reported as a failure without being known.
    unknown: Option<Uuid>,
    /// Whether that is so, and no commit is under way. Readable while a transaction is open.
    is_in_doubt: Arc<AtomicBool>,
}

// === impl LastCommit ===

impl LastCommit {
    /// A commit is about to begin. Its change has this identifier.
    pub(crate) fn begin(&mut self, change: Uuid) {
        self.unknown = Some(change);
    }

    /// The outcome of the commit is known.
    pub(crate) fn end(&mut self) {
        self.unknown = None;
        self.is_in_doubt.store(false, Ordering::Release);
    }

    /// Whether the outcome is known.
    pub(crate) fn is_known(&self) -> bool {
        self.unknown.is_none()
    }

    /// A flag that is true while the outcome is in doubt. It can be read while a transaction is open.
    pub(crate) fn doubt(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_in_doubt)
    }

    /// Waits until the server responds, and returns whether it committed.
    pub(crate) async fn ask(&mut self, database: &Database) -> Result<bool> {
        let Some(change) = self.unknown else { return Ok(false) };
        self.is_in_doubt.store(true, Ordering::Release);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = async { is_committed(change, &mut database.writer().await?).await }.await;
            match asked {
                Err(_) | Ok(None) if Instant::now() < deadline => sleep(PAUSE).await,
                Ok(Some(is_committed)) => {
                    self.end();
                    return Ok(is_committed);
                }
                Ok(None) => return Err(unknown_outcome()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Succeeds if another transaction may begin.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] until the server has decided. If it has committed, nothing of the database is used by this
    /// process any more.
    pub(crate) async fn resolve(&mut self, database: &Database, connection: &mut Connection) -> Result<()> {
        let Some(change) = self.unknown else { return Ok(()) };
        self.is_in_doubt.store(true, Ordering::Release);
        match is_committed(change, connection).await? {
            Some(false) => {
                self.end();
                Ok(())
            }
            Some(true) => Err(database.abandon(LOST)),
            None => Err(unknown_outcome()),
        }
    }
}

/// Whether the server committed a change; `None` if it has not decided.
async fn is_committed(change: Uuid, connection: &mut Connection) -> Result<Option<bool>> {
    connection.row(sqlx::query("SELECT last_change_is($1)").bind(change)).await?.column(0)
}

pub(crate) fn unknown_outcome() -> StoreError {
    StoreError::Unavailable("the outcome of the last change is not known yet".into())
}
