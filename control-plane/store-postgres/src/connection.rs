//! A connection of a pool, on which every statement has a deadline.
//!
//! The server stops a statement at `statement_timeout`. That is not enough: if the network is cut, no response arrives.
//! So the client stops waiting a little later. A connection on which a statement was abandoned is in an unknown state.
//! It is closed instead of being returned to the pool, and the server then stops the statement.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use omniflow_store::{Result, StoreError};

use crate::error::backend;

/// How much later than the server the client stops waiting, for the network in both directions.
const GRACE: Duration = Duration::from_secs(2);
/// How long a connection that is returned to the pool may take to roll back and to respond.
const RETURN_LIMIT: Duration = Duration::from_secs(5);

/// A statement with its values.
pub(crate) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A connection of a pool. Returned to the pool when dropped.
pub(crate) struct Connection {
    /// Present until the drop.
    connection: Option<PoolConnection<Postgres>>,
    /// The time limit of a statement, which the server has as `statement_timeout`.
    limit: Duration,
    /// Whether its statements may take long because of what was asked for. Others exceed the limit only if something is wrong.
    is_for_queries: bool,
    /// Whether the end of the last statement was not seen.
    is_in_doubt: bool,
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(connection: PoolConnection<Postgres>, limit: Duration, is_for_queries: bool) -> Self {
        Self { connection: Some(connection), limit, is_for_queries, is_in_doubt: false }
    }

    /// All rows of a query.
    pub(crate) async fn rows(&mut self, query: Statement<'_>) -> Result<Vec<PgRow>> {
        let limit = self.client_limit();
        let outcome = timeout(limit, query.fetch_all(self.start_statement()?)).await;
        self.end_statement(outcome)
    }

    /// The only row of a query.
    pub(crate) async fn row(&mut self, query: Statement<'_>) -> Result<PgRow> {
        let limit = self.client_limit();
        let outcome = timeout(limit, query.fetch_one(self.start_statement()?)).await;
        self.end_statement(outcome)
    }

    /// The row of a query that has at most one.
    pub(crate) async fn optional_row(&mut self, query: Statement<'_>) -> Result<Option<PgRow>> {
        let limit = self.client_limit();
        let outcome = timeout(limit, query.fetch_optional(self.start_statement()?)).await;
        self.end_statement(outcome)
    }

    /// Executes a statement and returns the number of affected rows.
    pub(crate) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64> {
        let limit = self.client_limit();
        let outcome = timeout(limit, statement.execute(self.start_statement()?)).await;
        Ok(self.end_statement(outcome)?.rows_affected())
    }

    /// How long the client waits for a statement.
    pub(crate) fn client_limit(&self) -> Duration {
        self.limit + GRACE
    }

    /// The driver's connection, for an operation whose outcome is passed to [`Connection::end_statement`]. If it is not,
    /// because the operation was abandoned, the connection is closed.
    ///
    /// # Errors
    ///
    /// Fails if an earlier statement was abandoned.
    pub(crate) fn start_statement(&mut self) -> Result<&mut PgConnection> {
        match &mut self.connection {
            Some(connection) if !self.is_in_doubt => {
                self.is_in_doubt = true;
                Ok(connection)
            }
            _ => Err(StoreError::Unavailable("an earlier statement was abandoned".into())),
        }
    }

    /// The result of an operation on the driver's connection.
    pub(crate) fn end_statement<T>(
        &mut self,
        outcome: std::result::Result<sqlx::Result<T>, Elapsed>,
    ) -> Result<T> {
        let Ok(outcome) = outcome else {
            return Err(self.exceeded());
        };
        // After an error of the database, the connection can be used again. After any other one, nothing is certain.
        self.is_in_doubt = outcome.as_ref().is_err_and(|error| {
            error.as_database_error().is_none() && !matches!(error, sqlx::Error::RowNotFound)
        });
        outcome.map_err(|error| match backend(error, self.limit) {
            StoreError::TimeLimit(_) => self.exceeded(),
            error => error,
        })
    }

    fn exceeded(&self) -> StoreError {
        let limit = self.limit;
        if self.is_for_queries {
            return StoreError::TimeLimit(limit);
        }
        StoreError::Unavailable(format!("a statement did not finish within {limit:?}").into())
    }

    /// Whether the end of the last statement was not seen.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// Marks the connection as one that must not be used again.
    pub(crate) fn condemn(&mut self) {
        self.is_in_doubt = true;
    }

    /// Calls the driver without waiting: it sends the command when the connection returns to its pool. Does nothing on a
    /// connection in doubt, which is closed.
    pub(crate) fn queue(&mut self, command: impl FnOnce(&mut PgConnection)) {
        if let (Some(connection), false) = (&mut self.connection, self.is_in_doubt) {
            command(connection);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.is_in_doubt {
            // Closes the socket. A polite end would have to wait for the statement.
            drop(connection.detach());
            return;
        }
        // The pool itself would wait for the rollback without a limit.
        let returned = connection.return_to_pool();
        tokio::spawn(timeout(RETURN_LIMIT, returned));
    }
}
