//! The rows: two SQLite databases in one data directory, and the only place that speaks SQL.
//!
//! `omniflow.db` holds keys, tokens, policy, the admins' trail, the installation and which gateways there are;
//! `audit.db` the calls. Each has one writer, taken in turn and always with `BEGIN IMMEDIATE`, and a pool of readers
//! that never wait for it (WAL). A commit is on the disk when it returns (`synchronous=FULL`).

mod audit;
mod audit_export;
mod audit_gateways;
mod audit_ingest;
mod audit_look;
mod audit_stats;
mod audit_timeline;
mod backup;
mod columns;
mod credentials;
mod database;
mod events;
mod findings;
mod form;
mod gateways;
mod idempotency;
#[cfg(test)]
mod ingest_rate;
mod installation;
mod key_hours;
mod key_read;
mod key_use;
mod key_write;
mod last_used;
#[cfg(test)]
pub(crate) mod made;
mod payloads;
mod policy;
mod restore;
mod retention;
mod rollups;
mod search_index;
mod sessions;
mod tokens;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use audit::{AuditFilter, AuditPosition};
pub(crate) use audit_export::{ExportPlace, GapNotice};
pub(crate) use audit_ingest::{IngestError, Ingested};
pub(crate) use audit_look::AuditedUser;
pub(crate) use audit_timeline::Timeline;
pub(crate) use backup::{BackupFile, back_up};
pub(crate) use credentials::CredentialsError;
pub use database::{Database, Transaction, Writer};
pub(crate) use events::EventFilter;
pub(crate) use findings::{Delivery, FindingFilter};
pub(crate) use idempotency::Attempt;
pub(crate) use installation::Installation;
pub(crate) use key_hours::{ChangedHour, LookedUpTo};
pub(crate) use key_read::{KeyFilter, KeyReference, RotationFilter};

pub(crate) use restore::restore;
pub(crate) use retention::Pages;

use omniflow_files::private;

const MAIN_FILE: &str = "omniflow.db";
const AUDIT_FILE: &str = "audit.db";
const LOCK_FILE: &str = "lock";

/// Both databases of a data directory. No other process has them open.
#[derive(Debug)]
pub struct Storage {
    /// Keys, tokens, policy, installation, gateways.
    pub main: Database,
    /// The audit log.
    pub audit: Database,
    /// Held as long as the storage is open; the operating system lets go of it when the process ends.
    _lock: File,
}

/// Why the storage cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process works on the data directory.
    #[error("another omf process uses the data directory {}: stop it or choose another --data-dir", .0.display())]
    InUse(PathBuf),
    /// A file or folder cannot be made, read or locked.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database was written by a newer release, or its history was altered.
    #[error("the database {} cannot be brought to this release's form: {source}", path.display())]
    Migration {
        /// Which database.
        path: PathBuf,
        /// What is wrong.
        source: sqlx::migrate::MigrateError,
    },
    /// SQLite refused.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// Who asked for a change may no longer: the token was revoked, or has expired, while the request was on its way.
    #[error("the token of a change is not valid any more")]
    ActorGone,
    /// A stored value has not the form in which it was written.
    #[error("the database holds {0} that cannot be read")]
    Corrupt(&'static str),
}

/// The outcome of what the storage is asked for.
pub type Result<T> = std::result::Result<T, StorageError>;

// === impl Storage ===

impl Storage {
    /// Opens the databases in `directory`, making what is missing and bringing older forms up to date.
    ///
    /// The directory is readable for its owner only, and so are its files.
    pub async fn open(directory: &Path) -> Result<Self> {
        private::make_private_directory(directory).map_err(at(directory))?;
        let lock = lock(directory)?;
        restore::finish(directory)?;
        let audit_path = directory.join(AUDIT_FILE);
        let audit =
            Database::open(&audit_path, database::audit_migrations(), None, database::USUAL_LOG_PAGES)
                .await?;
        let main_path = directory.join(MAIN_FILE);
        let most = database::MOST_LOG_PAGES;
        let main = Database::open(&main_path, database::main_migrations(), Some(&audit_path), most).await?;
        Ok(Self { main, audit, _lock: lock })
    }

    /// Whether both databases answer.
    pub(crate) async fn ping(&self) -> Result<()> {
        self.main.ping().await?;
        self.audit.ping().await
    }

    /// Ends all connections, so that the write-ahead logs are folded into the databases.
    pub async fn close(&self) {
        self.main.close().await;
        self.audit.close().await;
    }
}

/// Takes the data directory for this process.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_FILE);
    let lock = private::open_private(&path).map_err(at(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(at(&path)(source)),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::{Plane, START, record};

    #[tokio::test]
    async fn what_cannot_be_meant_is_corrupt() {
        let plane = Plane::new().await;
        let (main, audit) = (&plane.app.storage.main, &plane.app.storage.audit);
        plane.key("ci").await;
        let gateway = plane.token("gateway").await;
        plane.deliver(&gateway, vec![record(0, START, None)]).await;
        let change = async |database: &Database, statement: &'static str| {
            let mut writer = database.writer().await;
            let mut transaction = writer.begin().await.unwrap();
            sqlx::query(statement).execute(transaction.connection()).await.unwrap();
            transaction.commit().await.unwrap();
        };
        let reference = KeyReference::from("ci");
        for (wrong, right, what) in [
            ("per_minute = NULL", "per_minute = 60", "a rate limit"),
            ("per_minute = 0", "per_minute = 60", "a rate limit"),
            ("burst = 0", "burst = NULL", "a rate limit"),
            ("environment = 'prod'", "environment = 'live'", "an environment"),
            ("scopes = 'all'", "scopes = ''", "scopes"),
            ("ip_allowlist = 'here'", "ip_allowlist = ''", "an IP allowlist"),
        ] {
            let set = |values: &str| -> &'static str { format!("UPDATE keys SET {values}").leak() };
            change(main, set(wrong)).await;
            let found = main.key(&reference).await;
            assert!(
                matches!(&found, Err(StorageError::Corrupt(named)) if *named == what),
                "{wrong}: {found:?}"
            );
            assert!(plane.app.publisher.build_image().await.is_err(), "{wrong}: no gateway may get it");
            change(main, set(right)).await;
            assert!(main.key(&reference).await.unwrap().is_some());
        }
        change(main, "UPDATE tokens SET name = ' ' WHERE role = 'gateway'").await;
        assert!(matches!(main.tokens(None, 9).await, Err(StorageError::Corrupt("the name of a token"))));
        change(main, "UPDATE keys SET name = ' '").await;
        let keys = main.keys(&KeyFilter::default(), None, 9).await;
        assert!(matches!(keys, Err(StorageError::Corrupt("the name of a key"))));
        change(audit, "UPDATE audit_records SET reason = 'because'").await;
        assert!(matches!(audit.audit_entry(1).await, Err(StorageError::Corrupt("a reason"))));
    }
}
