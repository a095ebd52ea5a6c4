//! A write transaction, on keys or on the request log.
//!
//! One of each kind is open at a time. Within a process, a mutex decides whose turn it is, so that those who wait need no
//! connection. Among processes, an advisory lock of the database does. The database releases it with the transaction,
//! whatever happens to the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, SqlSafeStr};
use sqlx_core::transaction::TransactionManager;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use uuid::Uuid;

use omniflow_store::encoding::Columns;
use omniflow_store::metrics::{Operation, OperationTimer};
use omniflow_store::{Result, Transaction};

use crate::connection::Connection;
use crate::database::Database;
use crate::last_commit::{LastCommit, unknown_outcome};

/// The kind of a transaction. Each has an advisory lock, with the number of this product and a counter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Keys, tokens, policy, sessions, the admin log, sightings of gateways.
    Main,
    /// The request log and everything derived from it.
    Log,
}

/// The turns of this process.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    main: Arc<Mutex<LastCommit>>,
    log: Arc<Mutex<LastCommit>>,
    /// Whether the outcome of the last commit on keys is in doubt.
    is_in_doubt: Arc<AtomicBool>,
}

/// A write transaction. Rolled back when dropped without a commit.
pub(crate) struct PostgresTransaction {
    // Dropped before the turn ends.
    connection: Connection,
    kind: Kind,
    is_open: bool,
    timer: OperationTimer,
    database: Arc<Database>,
    turn: OwnedMutexGuard<LastCommit>,
}

// === impl Kind ===

impl Kind {
    /// The number of its lock.
    fn number(self) -> i32 {
        match self {
            Self::Main => 1,
            Self::Log => 2,
        }
    }
}

// === impl Turns ===

impl Default for Turns {
    fn default() -> Self {
        let main = LastCommit::default();
        let is_in_doubt = main.doubt();
        Self { main: Arc::new(Mutex::new(main)), log: Arc::default(), is_in_doubt }
    }
}

impl Turns {
    /// Succeeds if the outcome of the last commit on keys is known.
    pub(crate) async fn check(&self, database: &Database) -> Result<()> {
        match self.main.try_lock() {
            Ok(last) if last.is_known() => Ok(()),
            Ok(mut last) => last.resolve(database, &mut database.writer().await?).await,
            // The transaction that has the turn resolves it.
            Err(_) if self.is_in_doubt.load(Ordering::Acquire) => Err(unknown_outcome()),
            Err(_) => Ok(()),
        }
    }
}

// === impl PostgresTransaction ===

impl PostgresTransaction {
    /// Begins a write transaction. Waits until no other one of this kind is open, in any process.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`](omniflow_store::StoreError::Unavailable) if another process does not end its
    /// transaction in time, or if it has taken over the database from this one, `process`.
    pub(crate) async fn begin(
        database: &Arc<Database>,
        turns: &Turns,
        process: Uuid,
        kind: Kind,
    ) -> Result<Self> {
        let timer = database.start(Operation::Maintenance);
        let turn = match kind {
            Kind::Main => &turns.main,
            Kind::Log => &turns.log,
        };
        let mut turn = Arc::clone(turn).lock_owned().await;
        let mut connection = database.writer().await?;
        turn.resolve(database, &mut connection).await?;
        // Read committed, because a stricter level would read the state before the wait for the lock.
        let statement = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(7302502, {}); SELECT check_process('{process}')",
            kind.number()
        );
        let (limit, statement) = (connection.client_limit(), AssertSqlSafe(statement).into_sql_str());
        let begin = PgTransactionManager::begin(connection.start_statement()?, Some(statement));
        let outcome = timeout(limit, begin).await;
        if let Err(error) = connection.end_statement(outcome) {
            // The first statement may have succeeded, but the driver assumes that no transaction is open.
            connection.condemn();
            return Err(error);
        }
        Ok(Self { connection, kind, is_open: true, timer, database: Arc::clone(database), turn })
    }

    /// Sets the kind under which the transaction is measured. The default is maintenance.
    pub(crate) fn measured_as(mut self, operation: Operation) -> Self {
        self.timer.operation = operation;
        self
    }

    /// Marks the transaction as one that stores a batch of a gateway.
    pub(crate) fn set_ingest(&mut self) {
        self.timer.operation = Operation::Ingest;
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Commits. The change survives a crash of the server when this returns.
    pub(crate) async fn commit(mut self) -> Result<()> {
        // Batches of gateways are sent again until they are acknowledged, and stored once.
        if matches!(self.kind, Kind::Main) {
            let mark = sqlx::query(
                "UPDATE serving_process SET last_change = gen_random_uuid() RETURNING last_change",
            );
            let change = self.connection.row(mark).await?.column(0)?;
            self.turn.begin(change);
        }
        let limit = self.connection.client_limit();
        let outcome = timeout(limit, PgTransactionManager::commit(self.connection.start_statement()?)).await;
        let outcome = self.connection.end_statement(outcome);
        if !self.connection.is_in_doubt() {
            self.turn.end();
        }
        match outcome {
            Err(error) if self.connection.is_in_doubt() && matches!(self.kind, Kind::Main) => {
                tracing::warn!(%error, "outcome of a commit unknown, asking the database");
                if !self.turn.ask(&self.database).await? {
                    return Err(error);
                }
            }
            // The drop of `self` rolls back, or closes the connection.
            outcome => outcome?,
        }
        self.is_open = false;
        self.timer.observe();
        Ok(())
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        if self.is_open {
            self.connection.queue(PgTransactionManager::start_rollback);
        }
    }
}

#[async_trait]
impl Transaction for PostgresTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        (*self).commit().await
    }
}
