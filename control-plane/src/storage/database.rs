//! One SQLite database: its file, its form, its writer and its readers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Row, SqlSafeStr, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::{Result, StorageError, at};
use omniflow_files::private;

const READERS: u32 = 4;
/// What a reader keeps of a database, in SQLite's own unit: negative numbers are KiB. The system has the file in its memory
/// too, once for all of them. What is larger fills for a quarter of an hour, and as often as there are readers.
const READER_CACHE: &str = "-128";
/// The same of a writer, which keeps what it has written until it is committed.
const WRITER_CACHE: &str = "-512";
/// A write-ahead log of more pages than this, 16 MiB, is brought to its end.
const LONG_LOG_PAGES: i64 = 4_096;
/// The pages of a log at which a commit folds it: SQLite's own number.
pub(super) const USUAL_LOG_PAGES: u32 = 1_000;
/// The same where something else does it in time.
pub(super) const MOST_LOG_PAGES: u32 = 65_536;
/// Nobody else writes, so the only thing to wait for is a checkpoint.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A database that is open and has this release's form.
#[derive(Debug)]
pub struct Database {
    readers: SqlitePool,
    writer: Mutex<SqliteConnection>,
    /// Folds the write-ahead log into the database. It never writes rows.
    checkpointer: Mutex<SqliteConnection>,
    committed: Notify,
    /// With which the writer is connected.
    options: SqliteConnectOptions,
}

/// The one writer of a database, held by whoever changes it.
#[derive(Debug)]
pub struct Writer<'a> {
    connection: MutexGuard<'a, SqliteConnection>,
    committed: &'a Notify,
    options: &'a SqliteConnectOptions,
}

/// A transaction that writes. Dropped without a commit, it leaves no trace.
#[derive(Debug)]
pub struct Transaction<'a> {
    inner: sqlx::Transaction<'a, Sqlite>,
    committed: &'a Notify,
}

pub(super) fn main_migrations() -> Migrator {
    Migrator::with_migrations(vec![
        migration(1, "keys", include_str!("../../migrations/omniflow/0001_keys.sql")),
        migration(2, "gateways", include_str!("../../migrations/omniflow/0002_gateways.sql")),
        migration(3, "trail", include_str!("../../migrations/omniflow/0003_trail.sql")),
        migration(4, "sessions", include_str!("../../migrations/omniflow/0004_sessions.sql")),
        migration(5, "search", include_str!("../../migrations/omniflow/0005_search.sql")),
        migration(6, "search merges", include_str!("../../migrations/omniflow/0006_search_merges.sql")),
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
    /// Readers see the database at `audit`, where one is given, under that name: lists of keys ask for their use. A commit
    /// folds the write-ahead log into the database itself once that has `log_pages`.
    pub(super) async fn open(
        path: &Path,
        migrations: Migrator,
        audit: Option<&Path>,
        log_pages: u32,
    ) -> Result<Self> {
        // SQLite gives the files of the write-ahead log the mode of the database.
        private::open_private(path).map_err(at(path))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        // Counts for a database that is made now. One from before goes on reusing its free pages and does not shrink.
        // What is deleted is overwritten: a purged payload must not be found in the file.
        let making = options
            .clone()
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .pragma("secure_delete", "ON")
            .pragma("cache_size", WRITER_CACHE)
            .pragma("wal_autocheckpoint", log_pages.to_string());
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
                    sqlx::query("ATTACH DATABASE ? AS audit").bind(audit).execute(&mut *connection).await?;
                    // A statement that is put together: a pragma takes no parameters.
                    let cache = sqlx::AssertSqlSafe(format!("PRAGMA audit.cache_size = {READER_CACHE}"));
                    sqlx::query(cache).execute(connection).await.map(drop)
                })
            });
        }
        let options = options.pragma("cache_size", READER_CACHE);
        let checkpointer = SqliteConnection::connect_with(&options).await?;
        let readers = readers.connect_with(options.read_only(true)).await?;
        Ok(Self {
            readers,
            writer: Mutex::new(writer),
            options: making,
            checkpointer: Mutex::new(checkpointer),
            committed: Notify::new(),
        })
    }

    /// Waits for the turn to write.
    pub async fn writer(&self) -> Writer<'_> {
        Writer { connection: self.writer.lock().await, options: &self.options, committed: &self.committed }
    }

    /// Waits until something was committed since this was asked last.
    pub(crate) async fn committed(&self) {
        self.committed.notified().await;
    }

    /// Folds the write-ahead log into the database while changes go on. Where it has grown long, because they leave no
    /// moment between them, they wait for the rest of it, so that it begins anew.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        let mut checkpointer = self.checkpointer.lock().await;
        if fold(&mut checkpointer).await? > LONG_LOG_PAGES {
            let _turn = self.writer().await;
            fold(&mut checkpointer).await?;
        }
        Ok(())
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

/// Folds what no reader is in the way of, and gives the pages that the log has.
async fn fold(checkpointer: &mut SqliteConnection) -> Result<i64> {
    let row = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(checkpointer).await?;
    Ok(row.try_get(1)?)
}

// === impl Writer ===

impl Writer<'_> {
    /// Begins a transaction that can write at once.
    pub async fn begin(&mut self) -> Result<Transaction<'_>> {
        self.renew_if_stuck().await?;
        let inner = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Transaction { inner, committed: self.committed })
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
        &mut self.inner
    }

    /// Makes what was written last. It is on the disk when this returns.
    pub async fn commit(self) -> Result<()> {
        self.inner.commit().await?;
        self.committed.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Storage;

    /// Commits this many bytes, in rows that only this test has.
    async fn write(database: &Database, bytes: usize) {
        let mut writer = database.writer().await;
        let mut transaction = writer.begin().await.unwrap();
        sqlx::query("CREATE TABLE IF NOT EXISTS ballast (bytes BLOB)")
            .execute(transaction.connection())
            .await
            .unwrap();
        sqlx::query("INSERT INTO ballast VALUES (zeroblob(?))")
            .bind(i64::try_from(bytes).unwrap())
            .execute(transaction.connection())
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }

    #[tokio::test]
    async fn the_log_begins_anew_though_it_has_grown_long() {
        let folder = tempfile::tempdir().unwrap();
        let database = Storage::open(folder.path()).await.unwrap().main;
        write(&database, 24 << 20).await;
        let pages = fold(&mut *database.checkpointer.lock().await).await.unwrap();
        assert!(pages > LONG_LOG_PAGES, "{pages} pages");
        write(&database, 1).await;
        database.checkpoint().await.unwrap();
        database.committed().await;
        write(&database, 1).await;
        let pages = fold(&mut *database.checkpointer.lock().await).await.unwrap();
        assert!(pages < 100, "{pages} pages: the log has not begun anew");
    }

    #[tokio::test]
    async fn readers_keep_little_of_either_database() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path()).await.unwrap();
        for (database, statement) in [
            (&storage.main, "PRAGMA main.cache_size"),
            (&storage.main, "PRAGMA audit.cache_size"),
            (&storage.audit, "PRAGMA main.cache_size"),
        ] {
            let mut reader = database.reader().await.unwrap();
            let size: i64 = sqlx::query(statement).fetch_one(&mut *reader).await.unwrap().get(0);
            assert_eq!(size.to_string(), READER_CACHE, "{statement}");
        }
    }

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
