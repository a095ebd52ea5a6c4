//! What is known about the last commit of a kind of transaction.
//!
//! If the network is cut during a commit, the client does not learn whether the server committed. If the change were reported
//! as failed and is in the database, this process would publish the state before it. So the client asks the server for the
//! outcome of the transaction: at once and, if it cannot be reached, before the next transaction begins.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use omniflow_store::encoding::Columns;
use omniflow_store::{Result, StoreError};

use crate::connection::Connection;
use crate::database::Database;

/// How long a commit waits for its outcome.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// The outcome of the last commit.
#[derive(Debug, Default)]
pub(crate) enum LastCommit {
    /// It was reported as it is.
    #[default]
    Known,
    /// It was reported as a failure, or not at all. Contains the number of the transaction.
    Unknown(String),
    /// It was reported as a failure, and is committed. Only a new process has the state of the database again.
    Lost,
}

// === impl LastCommit ===

impl LastCommit {
    /// Waits until the server responds, and returns whether it committed.
    pub(crate) async fn ask(&mut self, database: &Database) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = async { self.is_committed(&mut database.writer().await?).await }.await;
            match asked {
                Err(_) | Ok(None) if Instant::now() < deadline => sleep(PAUSE).await,
                Ok(Some(is_committed)) => {
                    *self = Self::Known;
                    return Ok(is_committed);
                }
                Ok(None) => return Err(unknown()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Succeeds if another transaction may begin.
    pub(crate) async fn resolve(&mut self, connection: &mut Connection) -> Result<()> {
        match self {
            Self::Known => return Ok(()),
            Self::Lost => {}
            Self::Unknown(_) => match self.is_committed(connection).await? {
                Some(true) => *self = Self::Lost,
                Some(false) => *self = Self::Known,
                None => return Err(unknown()),
            },
        }
        if matches!(self, Self::Known) {
            return Ok(());
        }
        Err(StoreError::Unavailable(
            "a change that was reported as failed is committed: restart omf serve".into(),
        ))
    }

    /// Whether the server committed; `None` if it has not decided.
    async fn is_committed(&self, connection: &mut Connection) -> Result<Option<bool>> {
        let Self::Unknown(transaction) = self else { return Ok(Some(false)) };
        let query = sqlx::query("SELECT pg_xact_status($1::text::xid8)").bind(transaction);
        let row = connection.row(query).await?;
        // Null if it is too old, which takes days of transactions.
        Ok(match row.column::<Option<&str>>(0)? {
            Some("in progress") => None,
            Some("aborted") => Some(false),
            _ => Some(true),
        })
    }
}

fn unknown() -> StoreError {
    StoreError::Unavailable("the outcome of the last change is not known yet".into())
}
