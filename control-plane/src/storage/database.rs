//! One SQLite database: its file, its form, its writer and its readers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, SqlSafeStr, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, MutexGuard};

use super::{Result, StorageError, at};
use crate::files;

const READERS: u32 = 4;
/// Nobody else writes, so the only thing to wait for is a checkpoint.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A database that is open and has this release's form.
#[derive(Debug)]
pub struct Database {
    readers: SqlitePool,
    writer: Mutex<SqliteConnection>,
    /// With which the writer is connected.
    options: SqliteConnectOptions,
}

/// The one writer of a database, held by whoever changes it.
#[derive(Debug)]
pub struct Writer<'a> {
    connection: MutexGuard<'a, SqliteConnection>,
    options: &'a SqliteConnectOptions,
}

/// A transaction that writes. Dropped without a commit, it leaves no trace.
#[derive(Debug)]
pub struct Transaction<'a>(sqlx::Transaction<'a, Sqlite>);

pub(super) fn main_migrations() -> Migrator {
    Migrator::with_migrations(vec![
        migration(1, "keys", include_str!("../../migrations/omniflow/0001_keys.sql")),
        migration(2, "gateways", include_str!("../../migrations/omniflow/0002_gateways.sql")),
        migration(3, "trail", include_str!("../../migrations/omniflow/0003_trail.sql")),
        migration(4, "sessions", include_str!("../../migrations/omniflow/0004_sessions.sql")),
    ])
}

pub(super) fn audit_migrations() -> Migrator {
    Migrator::with_migrations(vec![
        migration(1, "audit", include_str!("../../migrations/audit/0001_audit.sql")),
        migration(2, "arrival", include_str!("../../migrations/audit/0002_arrival.sql")),
        migration(3, "statistics", include_str!("../../migrations/audit/0003_statistics.sql")),
        migration(4, "payloads", include_str!("../../migrations/audit/0004_payloads.sql")),
        migration(5, "patterns", include_str!("../../migrations/audit/0005_patterns.sql")),
        migration(6, "gateways", include_str!("../../migrations/audit/0006_gateways.sql")),
    ])
}

fn migration(version: i64, description: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

// === impl Database ===

impl Database {
    /// Readers see the database at `audit`, where one is given, under that name: lists of keys ask for their use.
    pub(super) async fn open(path: &Path, migrations: Migrator, audit: Option<&Path>) -> Result<Self> {
        // SQLite gives the files of the write-ahead log the mode of the database.
        files::open_private(path).map_err(at(path))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        // Counts for a database that is made now. One from before goes on reusing its free pages and does not shrink.
        // What is deleted is overwritten: a purged payload must not be found in the file.
        let making = options.clone().auto_vacuum(SqliteAutoVacuum::Incremental).pragma("secure_delete", "ON");
        let mut writer = SqliteConnection::connect_with(&making).await?;
        migrations
            .run(&mut writer)
            .await
            .map_err(|source| StorageError::Migration { path: path.to_owned(), source })?;
        let mut readers = SqlitePoolOptions::new().max_connections(READERS);
        if let Some(audit) = audit {
            let audit: Arc<[u8]> = audit.as_os_str().as_encoded_bytes().into();
            readers = readers.after_connect(move |connection, _| {
                let audit = audit.to_vec();
                Box::pin(async move {
                    sqlx::query("ATTACH DATABASE ? AS audit").bind(audit).execute(connection).await.map(drop)
                })
            });
        }
        let readers = readers.connect_with(options.read_only(true)).await?;
        Ok(Self { readers, writer: Mutex::new(writer), options: making })
    }

    /// Waits for the turn to write.
    pub async fn writer(&self) -> Writer<'_> {
        Writer { connection: self.writer.lock().await, options: &self.options }
    }

    pub(super) async fn reader(&self) -> Result<PoolConnection<Sqlite>> {
        Ok(self.readers.acquire().await?)
    }

    pub(super) async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&mut *self.reader().await?).await?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        // The last connection to go folds the write-ahead log into the database.
        if let Err(error) =
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *self.writer.lock().await).await
        {
            tracing::warn!(%error, "the write-ahead log stays beside the database");
        }
    }
}

// === impl Writer ===

impl Writer<'_> {
    /// Begins a transaction that can write at once.
    pub async fn begin(&mut self) -> Result<Transaction<'_>> {
        self.renew_if_stuck().await?;
        Ok(Transaction(self.connection.begin_with("BEGIN IMMEDIATE").await?))
    }

    /// SQLite takes a transaction back by itself where it cannot write, on a full disk above all. The driver goes on
    /// counting it, and begins no other on that connection, ever. A new connection counts anew.
    async fn renew_if_stuck(&mut self) -> Result<()> {
        if !self.connection.is_in_transaction() {
            return Ok(());
        }
        // One that was just dropped is being taken back at this moment: what is asked next waits for that.
        self.connection.ping().await?;
        if self.connection.is_in_transaction() {
            tracing::warn!("a transaction was taken back by the database; the writer connects anew");
            *self.connection = SqliteConnection::connect_with(self.options).await?;
        }
        Ok(())
    }
}

// === impl Transaction ===

impl Transaction<'_> {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }

    /// Makes what was written last. It is on the disk when this returns.
    pub async fn commit(self) -> Result<()> {
        Ok(self.0.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use crate::storage::Storage;

    #[tokio::test]
    async fn a_transaction_that_the_database_takes_back_is_not_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path()).await.unwrap();
        for _ in 0..2 {
            let mut writer = storage.main.writer().await;
            let mut transaction = writer.begin().await.unwrap();
            // As SQLite does on a full disk, behind the driver's back.
            sqlx::query("ROLLBACK").execute(transaction.connection()).await.unwrap();
            assert!(transaction.commit().await.is_err());
            // One that is dropped without a word is nothing of that kind.
            drop(writer.begin().await.unwrap());
            writer.begin().await.unwrap().commit().await.unwrap();
        }
    }
}
