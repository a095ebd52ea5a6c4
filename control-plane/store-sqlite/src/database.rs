//! One SQLite database: its file, its schema, its writer and its readers.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
    SqliteTransactionManager,
};
use sqlx::{Connection, SqlSafeStr, Sqlite, SqliteConnection, SqlitePool};
use sqlx_core::transaction::TransactionManager;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use omniflow_files::private;
use omniflow_policy::digest::Digest;
use omniflow_store::encoding::Columns;
use omniflow_store::metrics::{Operation, OperationTimer};
use omniflow_store::{Result, StoreError, StoreMetrics};

use crate::at;
use crate::scanner::{Scanner, Scanners};
use crate::token_digests::TokenDigests;

/// Connections for short reads: of single rows, or of few rows through an index.
const READERS: u32 = 4;
/// The page cache of a reader, in SQLite's unit: negative numbers are KiB. The operating system caches the file too, once
/// for all readers. A larger cache would fill within a quarter of an hour, once for each reader.
const READER_CACHE: &str = "-128";
/// The page cache of a writer, which holds uncommitted pages.
const WRITER_CACHE: &str = "-512";
/// A write-ahead log of more pages than this, 16 MiB, is checkpointed completely.
const LONG_LOG_PAGES: i64 = 4_096;
/// The pages of a write-ahead log at which a commit checkpoints it: SQLite's default.
pub(crate) const USUAL_LOG_PAGES: u32 = 1_000;
/// The same limit, if checkpoints run in parallel with commits.
pub(crate) const MAX_LOG_PAGES: u32 = 65_536;
/// How long the writer waits for a lock. Nothing else writes, so it only waits for checkpoints.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An open database with the schema of this release.
#[derive(Debug)]
pub(crate) struct Database {
    readers: SqlitePool,
    pub(crate) scanners: Scanners,
    writer: Arc<Mutex<SqliteConnection>>,
    /// Runs checkpoints. It never writes rows.
    checkpointer: Mutex<SqliteConnection>,
    committed: Arc<Notify>,
    token_digests: Arc<TokenDigests>,
    /// The connection options of the writer.
    options: SqliteConnectOptions,
    /// Those of the readers.
    pub(crate) reader_options: SqliteConnectOptions,
    metrics: StoreMetrics,
}

/// A connection for reads. Its use is recorded as one read when it is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: PoolConnection<Sqlite>,
    timer: OperationTimer,
}

/// A write transaction. Rolled back when dropped without a commit.
#[derive(Debug)]
pub(crate) struct SqliteTransaction {
    connection: OwnedMutexGuard<SqliteConnection>,
    committed: Arc<Notify>,
    token_digests: Arc<TokenDigests>,
    /// Digests of the tokens that this transaction deletes.
    deleted_tokens: Vec<Digest>,
    is_open: bool,
    timer: OperationTimer,
}

pub(crate) fn main_migrations() -> Migrator {
    Migrator::with_migrations(vec![migration(1, "schema", include_str!("../migrations/main.sql"))])
}

pub(crate) fn audit_migrations() -> Migrator {
    Migrator::with_migrations(vec![migration(1, "schema", include_str!("../migrations/audit.sql"))])
}

/// The error of a migration of the database at this path.
pub(crate) fn migration_error(path: &Path, error: MigrateError) -> StoreError {
    let database = path.display().to_string();
    match error {
        MigrateError::VersionMissing(version) => StoreError::NewerRelease { database, version },
        source => StoreError::Migration { database, source: Box::new(source) },
    }
}

fn migration(version: i64, description: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

// === impl Database ===

impl Database {
    /// Readers attach the database at `audit`, if given, as `audit`, because lists of keys filter by usage. A commit
    /// checkpoints the write-ahead log itself once the log has `log_pages` pages.
    pub(crate) async fn open(
        path: &Path,
        migrations: Migrator,
        audit: Option<&Path>,
        log_pages: u32,
        metrics: StoreMetrics,
    ) -> Result<Self> {
        // SQLite creates the write-ahead log with the mode of the database.
        private::open_private(path).map_err(at(path))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // For statement journals and small sorts: no directory for temporary files may be writable.
            .pragma("temp_store", "MEMORY")
            .busy_timeout(BUSY_TIMEOUT);
        // auto_vacuum takes effect in a new database. Deleted content is overwritten: a purged payload must not be found
        // in the file.
        let making = options
            .clone()
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .pragma("secure_delete", "ON")
            .pragma("cache_size", WRITER_CACHE)
            .pragma("wal_autocheckpoint", log_pages.to_string());
        let mut writer = SqliteConnection::connect_with(&making).await.map_err(StoreError::backend)?;
        migrations.run(&mut writer).await.map_err(|error| migration_error(path, error))?;
        let mut readers = SqlitePoolOptions::new().max_connections(READERS);
        if let Some(audit) = audit {
            let audit: Arc<[u8]> = audit.as_os_str().as_encoded_bytes().into();
            readers = readers.after_connect(move |connection, _| {
                let audit = audit.to_vec();
                Box::pin(async move {
                    sqlx::query("ATTACH DATABASE ? AS audit").bind(audit).execute(&mut *connection).await?;
                    // A concatenated statement: a pragma takes no parameters.
                    let cache = sqlx::AssertSqlSafe(format!("PRAGMA audit.cache_size = {READER_CACHE}"));
                    sqlx::query(cache).execute(connection).await.map(drop)
                })
            });
        }
        let options = options.pragma("cache_size", READER_CACHE);
        let checkpointer = SqliteConnection::connect_with(&options).await.map_err(StoreError::backend)?;
        let options = options.read_only(true);
        let scanners = Scanners::connect(readers.clone(), options.clone()).await?;
        let readers = readers.connect_with(options.clone()).await.map_err(StoreError::backend)?;
        Ok(Self {
            readers,
            scanners,
            writer: Arc::new(Mutex::new(writer)),
            options: making,
            reader_options: options,
            checkpointer: Mutex::new(checkpointer),
            committed: Arc::new(Notify::new()),
            token_digests: Arc::default(),
            metrics,
        })
    }

    /// Begins a write transaction. Waits until no other one is open.
    pub(crate) async fn begin(&self) -> Result<SqliteTransaction> {
        let timer = self.metrics.start(Operation::Maintenance);
        let mut connection = Arc::clone(&self.writer).lock_owned().await;
        self.renew_if_stuck(&mut connection).await?;
        // Open from here on: if the caller drops this future while it waits for SQLite, the drop rolls back.
        let mut transaction = SqliteTransaction {
            connection,
            committed: Arc::clone(&self.committed),
            token_digests: Arc::clone(&self.token_digests),
            deleted_tokens: Vec::new(),
            is_open: true,
            timer,
        };
        let statement = "BEGIN IMMEDIATE".into_sql_str();
        SqliteTransactionManager::begin(&mut transaction.connection, Some(statement))
            .await
            .map_err(StoreError::backend)?;
        Ok(transaction)
    }

    /// SQLite rolls a transaction back by itself if it cannot write, typically on a full disk. The driver still
    /// considers it open, and never begins another one on that connection. A new connection starts with a new count.
    async fn renew_if_stuck(&self, connection: &mut SqliteConnection) -> Result<()> {
        if !connection.is_in_transaction() {
            return Ok(());
        }
        // A dropped transaction may still be rolling back. The next command waits for that.
        connection.ping().await.map_err(StoreError::backend)?;
        if connection.is_in_transaction() {
            tracing::warn!("transaction rolled back by the database, reconnecting");
            *connection = SqliteConnection::connect_with(&self.options).await.map_err(StoreError::backend)?;
        }
        Ok(())
    }

    /// Waits for a commit since the last call.
    pub(crate) async fn committed(&self) {
        self.committed.notified().await;
    }

    /// Checkpoints while changes are committed. If the write-ahead log has grown long because they leave no pause, they wait
    /// for the rest of the checkpoint, so that the log restarts.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        let mut checkpointer = self.checkpointer.lock().await;
        if checkpoint(&mut checkpointer).await? > LONG_LOG_PAGES {
            let _turn = self.writer.lock().await;
            checkpoint(&mut checkpointer).await?;
        }
        Ok(())
    }

    /// The digests of its tokens.
    pub(crate) fn token_digests(&self) -> &TokenDigests {
        &self.token_digests
    }

    pub(crate) async fn reader(&self) -> Result<Reader> {
        let timer = self.metrics.start(Operation::Read);
        Ok(Reader { connection: self.readers.acquire().await.map_err(StoreError::backend)?, timer })
    }

    /// A connection for a read that may take long. Reads of [`Database::reader`] do not wait for it.
    pub(crate) async fn scanner(&self) -> Result<Scanner> {
        self.scanners.acquire(self.metrics.start(Operation::Read)).await
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&mut *self.reader().await?).await.map_err(StoreError::backend)?;
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.scanners.close().await;
        if let Err(error) =
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *self.writer.lock().await).await
        {
            tracing::warn!(%error, "final checkpoint failed");
        }
    }
}

/// Checkpoints as far as no reader prevents it. Returns the number of pages in the write-ahead log.
async fn checkpoint(checkpointer: &mut SqliteConnection) -> Result<i64> {
    let row = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
        .fetch_one(checkpointer)
        .await
        .map_err(StoreError::backend)?;
    row.column(1)
}

// === impl Reader ===

impl Deref for Reader {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.timer.observe();
    }
}

// === impl SqliteTransaction ===

impl SqliteTransaction {
    /// Sets the kind under which the transaction is measured. The default is maintenance.
    pub(crate) fn measured_as(mut self, operation: Operation) -> Self {
        self.timer.operation = operation;
        self
    }

    /// Marks the transaction as one that stores a batch of a gateway.
    pub(crate) fn set_ingest(&mut self) {
        self.timer.operation = Operation::Ingest;
    }

    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Registers a token that is being inserted, so that it is found as soon as it is committed.
    pub(crate) fn token_inserted(&self, digest: Digest) {
        self.token_digests.add(digest);
    }

    /// Registers a token that no longer exists once this transaction is committed.
    pub(crate) fn token_deleted(&mut self, digest: Digest) {
        self.deleted_tokens.push(digest);
    }

    /// Commits. The change is on disk when this returns.
    pub(crate) async fn commit(mut self) -> Result<()> {
        // Rolled back by the drop of `self` if this fails.
        SqliteTransactionManager::commit(&mut self.connection).await.map_err(StoreError::backend)?;
        self.is_open = false;
        self.token_digests.remove(&self.deleted_tokens);
        self.timer.observe();
        self.committed.notify_one();
        Ok(())
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if self.is_open {
            SqliteTransactionManager::start_rollback(&mut self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::SqliteStore;

    /// Commits this many bytes, in rows of a table that only this test has.
    async fn write(database: &Database, bytes: usize) {
        let mut transaction = database.begin().await.unwrap();
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
    async fn long_write_ahead_log_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let database = SqliteStore::open(folder.path()).await.unwrap().main;
        write(&database, 24 << 20).await;
        let pages = checkpoint(&mut *database.checkpointer.lock().await).await.unwrap();
        assert!(pages > LONG_LOG_PAGES, "{pages} pages");
        write(&database, 1).await;
        database.checkpoint().await.unwrap();
        database.committed().await;
        write(&database, 1).await;
        let pages = checkpoint(&mut *database.checkpointer.lock().await).await.unwrap();
        assert!(pages < 100, "{pages} pages: the log has not restarted");
    }

    #[tokio::test]
    async fn readers_have_small_caches_of_both_databases() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        for (database, statement) in [
            (&store.main, "PRAGMA main.cache_size"),
            (&store.main, "PRAGMA audit.cache_size"),
            (&store.audit, "PRAGMA main.cache_size"),
        ] {
            let mut reader = database.reader().await.unwrap();
            let size: i64 = sqlx::query(statement).fetch_one(&mut *reader).await.unwrap().get(0);
            assert_eq!(size.to_string(), READER_CACHE, "{statement}");
        }
    }

    /// The temporary files of SQLite that this process has open in a folder that all processes share.
    fn shared_temporary_files() -> Vec<String> {
        let opened = std::fs::read_dir("/proc/self/fd").unwrap();
        let paths = opened.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        let paths = paths.map(|path| path.display().to_string());
        let is_shared = |path: &String| {
            ["/var/tmp", "/usr/tmp", "/tmp"]
                .iter()
                .any(|folder| path.starts_with(&format!("{folder}/etilqs_")))
        };
        paths.filter(is_shared).collect()
    }

    #[tokio::test]
    async fn temporary_files_are_in_memory_or_in_the_data_directory() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        for database in [&store.main, &store.audit] {
            let mut transaction = database.begin().await.unwrap();
            for statement in [
                "CREATE TABLE ballast (number INTEGER UNIQUE, bytes BLOB)",
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                 INSERT INTO ballast SELECT i, zeroblob(100) FROM n",
                // Can fail half way, so it has a journal of its own until the transaction ends.
                "UPDATE ballast SET number = number + 100000, bytes = zeroblob(200)",
            ] {
                sqlx::query(statement).execute(transaction.connection()).await.unwrap();
            }
            assert_eq!(shared_temporary_files(), [""; 0], "of a batch");
            transaction.commit().await.unwrap();
        }
        // SQLite has one folder for the whole process, and other tests remove theirs: only that one is set is certain.
        let mut sorter = store.sorter().await.unwrap();
        let folder = sqlx::query("PRAGMA temp_store_directory").fetch_one(&mut *sorter).await.unwrap();
        assert!(!folder.get::<String, _>(0).is_empty(), "large sorts are in the data directory");
    }

    #[tokio::test]
    async fn writer_recovers_from_a_rollback_by_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        for _ in 0..2 {
            let mut transaction = store.main.begin().await.unwrap();
            // As SQLite does on a full disk, unnoticed by the driver.
            sqlx::query("ROLLBACK").execute(transaction.connection()).await.unwrap();
            assert!(transaction.commit().await.is_err());
            // A dropped transaction leaves the connection usable.
            drop(store.main.begin().await.unwrap());
            store.main.begin().await.unwrap().commit().await.unwrap();
        }
    }
}
