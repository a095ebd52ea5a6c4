//! Why an operation on the store failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_policy::snapshot::SnapshotError;

/// The result of an operation on the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why the store cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process uses the data directory, and the backend serves one process at a time.
    #[error("another process is using the data directory {}", .0.display())]
    InUse(PathBuf),
    /// Another process uses the database, and the backend serves one process at a time. Names the database, without a password.
    #[error("another process is using the database {0}")]
    DatabaseInUse(String),
    /// A file or directory cannot be created, read or locked.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The database was written by a newer release, which has a migration that this one does not know.
    #[error("the database {database} was written by a newer release (migration {version})")]
    NewerRelease {
        /// The database: a path or a URL without its password.
        database: String,
        /// The migration.
        version: i64,
    },
    /// The migrations of the database were altered, or one of them failed.
    #[error("the database {database} cannot be migrated to this release's schema: {source}")]
    Migration {
        /// The database: a path or a URL without its password.
        database: String,
        /// The error of the backend.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database refused an operation or cannot be reached.
    #[error("the database failed: {0}")]
    Backend(Box<dyn std::error::Error + Send + Sync>),
    /// The database cannot be reached, refuses connections or does not respond. The operation can be retried later.
    #[error("the database is unavailable: {0}")]
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
    /// A read exceeded this time limit and was stopped.
    #[error("a read did not finish within {0:?} and was stopped")]
    TimeLimit(Duration),
    /// Statistics were not computed, because less than `needed_bytes` are free on the volume of the databases.
    #[error("less than {needed_bytes} bytes are free on the volume of the data directory")]
    LowSpace {
        /// The free space that statistics need, in bytes.
        needed_bytes: u64,
    },
    /// The token that requested a change was revoked or has expired since the request arrived.
    #[error("the token that requested the change is no longer valid")]
    PrincipalInvalid,
    /// A stored value cannot be parsed. Names the value.
    #[error("the database contains {0} that cannot be read")]
    Corrupt(&'static str),
}

/// Why the credentials of all keys cannot be read into an image.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The keys cannot be read.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// The keys do not fit into an image.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

// === impl StoreError ===

impl StoreError {
    /// Wraps an error of the backend's driver.
    pub fn backend(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Backend(error.into())
    }
}

/// The details go to the log; the principal gets a sentence without them.
impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::PrincipalInvalid) {
            return Self::unauthenticated();
        }
        if let StoreError::TimeLimit(limit) = error {
            tracing::warn!(?limit, "read stopped at its time limit");
            let seconds = limit.as_secs();
            let detail = format!(
                "The query did not finish within {seconds} seconds and was stopped. Select fewer calls with a shorter period or a narrower filter, or retry later."
            );
            return Self::new(ErrorCode::Busy, detail);
        }
        if let StoreError::LowSpace { needed_bytes } = error {
            let mib = needed_bytes >> 20;
            let detail = format!(
                "Less than {mib} MiB are free on the volume of the data directory, so statistics are not computed: they could use \
                 up the space that changes to keys need. Free up space on it, or lower audit_max_mib."
            );
            return Self::new(ErrorCode::Busy, detail);
        }
        if matches!(error, StoreError::Unavailable(_)) {
            tracing::error!(%error, "database unavailable");
            return Self::new(ErrorCode::Busy, "The database is unavailable. Retry later.".to_owned());
        }
        tracing::error!(%error, "store operation failed");
        Self::internal()
    }
}
