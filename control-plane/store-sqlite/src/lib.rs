//! The embedded store: two SQLite databases in one data directory. SQL is written in the two store crates only.
//!
//! `omniflow.db` holds keys, tokens, policy, sessions, the admin log, the installation and sightings of gateways;
//! `audit.db` holds the request log and everything derived from it. Each has one writer connection, used in turn and
//! always with `BEGIN IMMEDIATE`, and a pool of readers that never wait for it (WAL). A commit is on disk when it
//! returns (`synchronous=FULL`). One process uses a data directory at a time; a lock file enforces that.
//!
//! | module | content |
//! |---|---|
//! | `database`, `scanner`, `volume`, `columns` | one database with its writer and readers; long reads, and the space that they leave free; rows of the driver |
//! | `keys`, `tokens`, `token_digests`, `sessions`, `policy`, `admin_log`, `installation`, `idempotency` | the main database |
//! | `request_log`, `gateways`, `gateway_log`, `anomalies`, `rollup`, `payloads`, `export` | the request log |
//! | `retention`, `purge`, `maintenance`, `search_index` | purging and upkeep |
//! | `backup`, `restore`, `schema_check`, `release_check` | backup and restore of a data directory; the checks of its schema and of its release |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

mod admin_log;
mod anomalies;
mod backup;
mod columns;
mod database;
mod export;
#[cfg(any(test, feature = "fixtures"))]
#[cfg_attr(not(test), expect(clippy::unwrap_used, reason = "a benchmark cannot run without its data"))]
pub mod fixtures;
mod gateway_log;
mod gateways;
mod idempotency;
mod installation;
mod keys;
mod maintenance;
mod payloads;
mod policy;
mod purge;
mod release_check;
mod request_log;
mod restore;
mod retention;
mod rollup;
mod scanner;
mod schema_check;
mod search_index;
mod sessions;
mod token_digests;
mod tokens;
mod volume;

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use omniflow_files::private;
use omniflow_store::metrics::Operation;
use omniflow_store::{Result, StoreError, StoreMetrics};
use sqlx::sqlite::SqlitePoolOptions;

pub use backup::{BackupError, BackupFile, BackupManifest, back_up};
use database::Database;
pub use release_check::check_release;
pub use restore::{Restored, Revived, restore};
use scanner::{Scanner, Scanners};
use volume::Volume;

const MAIN_FILE: &str = "omniflow.db";
const AUDIT_FILE: &str = "audit.db";
const LOCK_FILE: &str = "lock";

/// The databases of a data directory. No other process has them open.
#[derive(Debug)]
pub struct SqliteStore {
    /// Keys, tokens, policy, sessions, the admin log, the installation, and when gateways were last seen.
    main: Database,
    /// The request log.
    audit: Database,
    /// Connections for statistics of the request log.
    sorters: Scanners,
    metrics: StoreMetrics,
    /// The volume of the databases.
    volume: Volume,
    /// Held while the store is open; the operating system releases it when the process ends.
    _lock: File,
}

// === impl SqliteStore ===

impl SqliteStore {
    /// Whether `directory` has the databases of an installation.
    pub fn exists(directory: &Path) -> bool {
        directory.join(MAIN_FILE).exists()
    }

    /// Opens the databases in `directory`, and creates or migrates them as needed. The directory and its files are
    /// readable by their owner only.
    pub async fn open(directory: &Path) -> Result<Self> {
        Self::open_with_reserve(directory, 0).await
    }

    /// The same, with space in bytes that statistics leave free on the volume of the directory.
    pub async fn open_with_reserve(directory: &Path, reserve: u64) -> Result<Self> {
        private::make_private_directory(directory).map_err(at(directory))?;
        let lock = lock(directory)?;
        restore::finish(directory)?;
        let metrics = StoreMetrics::default();
        let audit_path = directory.join(AUDIT_FILE);
        let (migrations, usual) = (database::audit_migrations(), database::USUAL_LOG_PAGES);
        let audit = Database::open(&audit_path, migrations, None, usual, metrics.clone()).await?;
        let main_path = directory.join(MAIN_FILE);
        let (migrations, most) = (database::main_migrations(), database::MAX_LOG_PAGES);
        let main = Database::open(&main_path, migrations, Some(&audit_path), most, metrics.clone()).await?;
        let volume = Volume::new(directory.to_owned(), reserve);
        let sorters =
            Scanners::sorting_on(volume.clone(), SqlitePoolOptions::new(), audit.reader_options.clone())
                .await?;
        let store = Self { main, audit, sorters, metrics, volume, _lock: lock };
        store.load_token_digests().await?;
        Ok(store)
    }

    /// A connection for statistics of the request log. Other reads do not wait for it.
    async fn sorter(&self) -> Result<Scanner> {
        self.sorters.acquire(self.metrics.start(Operation::Read)).await
    }
}

/// Locks the data directory for this process.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_FILE);
    let lock = private::open_private(&path).map_err(at(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(at(&path)(source)),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { path, source }
}

#[cfg(test)]
mod tests;
