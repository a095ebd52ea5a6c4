//! The store on a PostgreSQL server. SQL is written in the two store crates only.
//!
//! The layout is that of `omniflow-store-sqlite`: the same modules contain the same parts. All data is in one database, in
//! which a transaction on keys and one on the request log run side by side. Every statement has a time limit on the server
//! and a slightly longer one here, so that a server that does not respond is an error and not a hang.
//!
//! | module | content |
//! |---|---|
//! | `settings`, `migrations`, `process_lock`, `error` | where the database is; its schema; the process that uses it; errors of the driver |
//! | `database`, `connection`, `transaction`, `log_transaction`, `last_commit`, `columns` | connections, time limits, transactions; rows of the driver |
//! | `keys`, `tokens`, `sessions`, `policy`, `admin_log`, `installation`, `idempotency`, `gateways` | keys and everything that admins change; sightings of gateways |
//! | `request_log`, `partitions`, `days`, `gaps`, `gateway_log`, `anomalies`, `rollup`, `payloads`, `export` | the request log, by day |
//! | `retention`, `purge`, `usage`, `space`, `time_limit`, `text` | purging, and the space of the log; time limits of long reads; texts from outside |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

mod admin_log;
mod anomalies;
mod columns;
mod connection;
mod database;
mod days;
mod error;
mod export;
mod gaps;
mod gateway_log;
mod gateways;
mod idempotency;
mod installation;
mod keys;
mod last_commit;
mod log_transaction;
mod migrations;
mod partitions;
mod payloads;
mod policy;
mod process_lock;
mod purge;
mod request_log;
mod retention;
mod rollup;
mod sessions;
mod settings;
mod space;
mod store;
#[cfg(test)]
mod test_store;
mod text;
mod time_limit;
mod tokens;
mod transaction;
mod usage;

use std::sync::Arc;

use omniflow_store::{Result, StoreMetrics};

use database::{Database, check_server, connect};
use migrations::migrate;
use process_lock::{ProcessLock, take_lock};
pub use settings::{DatabaseUrl, InvalidUrl, OptionsError, PostgresSettings};
use transaction::{Kind, PostgresTransaction, Turns};

/// A database with the schema of this release.
#[derive(Debug)]
pub struct PostgresStore {
    database: Arc<Database>,
    turns: Turns,
    process: ProcessLock,
}

// === impl PostgresStore ===

impl PostgresStore {
    /// Connects to the database, and creates or migrates its schema as needed. No other process can open it until this store
    /// is closed.
    ///
    /// # Errors
    ///
    /// [`StoreError::DatabaseInUse`](omniflow_store::StoreError::DatabaseInUse) if another process uses the database.
    pub async fn open(settings: PostgresSettings) -> Result<Self> {
        let name = settings.url.to_string();
        let database = Arc::new(Database::new(settings, StoreMetrics::default())?);
        let mut session = connect(database.connect_options()?).await?;
        check_server(&mut session, name.clone()).await?;
        take_lock(&mut session, name.clone()).await?;
        migrate(&mut session, name.clone()).await?;
        let process = ProcessLock::register(session, name).await?;
        Ok(Self { database, turns: Turns::default(), process })
    }

    /// Begins a transaction on keys and everything that admins change.
    pub(crate) async fn begin_main(&self) -> Result<PostgresTransaction> {
        PostgresTransaction::begin(&self.database, &self.turns, self.process.id(), Kind::Main).await
    }

    /// Begins a transaction on the request log, measured as maintenance.
    pub(crate) async fn begin_log(&self) -> Result<PostgresTransaction> {
        PostgresTransaction::begin(&self.database, &self.turns, self.process.id(), Kind::Log).await
    }
}
