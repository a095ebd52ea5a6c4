//! Reads that may take long: lists with filters, statistics, exports.
//!
//! They use their own connections, so that authentication, changes to keys and health checks never wait for them. Each has
//! a time limit. A read whose result is no longer needed is stopped within milliseconds.
//!
//! Lists sort at most one page, in memory. Statistics may sort the whole log, so they use a second set of connections, which
//! sort in temporary files and leave the space that changes to keys need.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use omniflow_store::metrics::OperationTimer;
use omniflow_store::{Result, StoreError};

use crate::volume::Volume;

/// Connections for long reads of one database, and for its statistics.
pub(crate) const SCANNERS: u32 = 4;
/// The time limit of one operation, including the wait for a connection.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Steps of SQLite's virtual machine between two checks whether a read must stop. A step takes at most a few microseconds.
const STEPS_PER_CHECK: i32 = 10_000;

/// SQLite's error code for a full disk (sqlite.org/rescode.html).
const SQLITE_FULL: &str = "13";

/// The connections for long reads.
#[derive(Debug)]
pub(crate) struct Scanners {
    pub(crate) pool: SqlitePool,
    /// Where they sort in temporary files; `None` for connections that sort in memory.
    volume: Option<Volume>,
}

/// A connection for a long read. Its use is recorded as one read when it is dropped; a statement that is still running is
/// stopped then.
#[derive(Debug)]
pub(crate) struct Scanner {
    connection: PoolConnection<Sqlite>,
    stop: Arc<Stop>,
    volume: Option<Volume>,
    timer: OperationTimer,
}

/// Why the statement of a scanner is stopped.
#[derive(Debug, Default)]
struct Stop {
    is_dropped: AtomicBool,
    lacks_space: AtomicBool,
}

/// Runs an operation that reads through scanners.
///
/// # Errors
///
/// [`StoreError::TimeLimit`] if it does not end in time.
pub(crate) async fn in_time<T>(operation: impl Future<Output = Result<T>>) -> Result<T> {
    within(TIME_LIMIT, operation).await
}

async fn within<T>(limit: Duration, operation: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, operation).await.unwrap_or(Err(StoreError::TimeLimit(limit)))
}

// === impl Scanners ===

impl Scanners {
    /// Opens the first connection; `options` are those of the readers of the database.
    pub(crate) async fn connect(pool: SqlitePoolOptions, options: SqliteConnectOptions) -> Result<Self> {
        Self::open(pool, options, None).await
    }

    /// Opens the first connection that sorts in temporary files, in the directory of the database: the system's directory for
    /// them may be small, or missing if the root file system is read-only.
    ///
    /// # Errors
    ///
    /// Fails if the directory is not writable.
    pub(crate) async fn sorting_on(
        volume: Volume,
        pool: SqlitePoolOptions,
        options: SqliteConnectOptions,
    ) -> Result<Self> {
        let directory = quoted(volume.directory());
        let options = options.pragma("temp_store", "FILE").pragma("temp_store_directory", directory);
        Self::open(pool, options, Some(volume)).await
    }

    async fn open(
        pool: SqlitePoolOptions,
        options: SqliteConnectOptions,
        volume: Option<Volume>,
    ) -> Result<Self> {
        // The time limit of the operation ends a longer wait.
        let pool = pool.max_connections(SCANNERS).acquire_timeout(2 * TIME_LIMIT);
        Ok(Self { pool: pool.connect_with(options).await.map_err(StoreError::backend)?, volume })
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// [`StoreError::LowSpace`] if it could sort in temporary files and there is no space for them.
    pub(crate) async fn acquire(&self, timer: OperationTimer) -> Result<Scanner> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::backend)?;
        let stop = Arc::new(Stop::default());
        // Replaces the handler of the previous use, which stops every statement.
        let may_continue = {
            let (stop, volume) = (Arc::clone(&stop), self.volume.clone());
            move || stop.check(volume.as_ref())
        };
        let mut handle = connection.lock_handle().await.map_err(StoreError::backend)?;
        handle.set_progress_handler(STEPS_PER_CHECK, may_continue);
        drop(handle);
        let scanner = Scanner { connection, stop, volume: self.volume.clone(), timer };
        match &self.volume {
            Some(volume) if !volume.has_room_for_sorts().await => Err(volume.low_space()),
            _ => Ok(scanner),
        }
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A directory as the value of `PRAGMA temp_store_directory`. SQLite has one such setting for the whole process.
pub(crate) fn quoted(folder: &Path) -> String {
    format!("'{}'", folder.display().to_string().replace('\'', "''"))
}

// === impl Stop ===

impl Stop {
    /// Whether the statement may continue.
    fn check(&self, volume: Option<&Volume>) -> bool {
        if volume.is_some_and(|volume| !volume.has_room_now()) {
            self.lacks_space.store(true, Ordering::Relaxed);
            return false;
        }
        !self.is_dropped.load(Ordering::Relaxed)
    }
}

// === impl Scanner ===

impl Scanner {
    /// The error of a statement: the space for its temporary files, if that was the cause.
    pub(crate) fn error(&self, error: sqlx::Error) -> StoreError {
        let is_full =
            || error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(SQLITE_FULL));
        match &self.volume {
            Some(volume) if self.stop.lacks_space.load(Ordering::Relaxed) || is_full() => volume.low_space(),
            _ => StoreError::backend(error),
        }
    }
}

impl Deref for Scanner {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Scanner {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.stop.is_dropped.store(true, Ordering::Relaxed);
        self.timer.observe();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use omniflow_store::Store;
    use omniflow_store::request_log::RequestLogStore;
    use omniflow_store::tokens::TokenStore;

    use super::*;
    use crate::SqliteStore;
    use crate::database::Database;

    /// Longer than any test: it would run for days.
    const ENDLESS: &str =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

    async fn scan(database: &Database, limit: Duration) -> Result<()> {
        let scan = async {
            let mut scanner = database.scanner().await?;
            sqlx::query(ENDLESS).fetch_one(&mut *scanner).await.map_err(StoreError::backend)?;
            Ok(())
        };
        within(limit, scan).await
    }

    #[tokio::test]
    async fn short_reads_do_not_wait_for_long_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(folder.path()).await.unwrap());
        let scans: Vec<_> = (0..48)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    tokio::join!(
                        scan(&store.main, Duration::from_secs(60)),
                        scan(&store.audit, Duration::from_secs(60))
                    )
                })
            })
            .collect();
        let all_scanners_run = async {
            while store.main.scanners.pool.num_idle() > 0 || store.audit.scanners.pool.num_idle() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all_scanners_run).await.unwrap();
        let reads = async {
            for _ in 0..20 {
                store.last_used(&[uuid::Uuid::nil()]).await.unwrap();
                store.token(uuid::Uuid::nil()).await.unwrap();
                store.ping().await.unwrap();
                store.begin().await.unwrap().commit().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reads).await.unwrap();
        assert!(scans.iter().all(|scan| !scan.is_finished()));
        scans.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn long_read_is_stopped_and_its_connection_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let started = Instant::now();
        for _ in 0..2 * SCANNERS {
            let stopped = scan(&store.audit, Duration::from_millis(20)).await.unwrap_err();
            assert!(matches!(stopped, StoreError::TimeLimit(_)), "{stopped}");
        }
        for _ in 0..2 * SCANNERS {
            let mut scanner = store.audit.scanner().await.unwrap();
            sqlx::query("SELECT 1").fetch_one(&mut *scanner).await.unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(10), "the statements were stopped");
    }
}
