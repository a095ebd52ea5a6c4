//! Errors of the driver as errors of the store.

use std::time::Duration;

use omniflow_store::StoreError;

/// The SQLSTATE of a statement that `statement_timeout` stopped
/// (postgresql.org/docs/current/errcodes-appendix.html, as are the others).
const QUERY_CANCELED: &str = "57014";
/// The SQLSTATEs of a server that starts, stops or has no connection left, and of a lock that is not released in time. All of
/// the classes 08 and 28 belong to them: connections that fail or are not authorized.
const UNAVAILABLE: [&str; 8] = ["57P01", "57P02", "57P03", "57P05", "53300", "55P03", "25P03", TAKEN_OVER];
/// The SQLSTATE with which the function `check_process` fails.
const TAKEN_OVER: &str = "OMF01";

/// Whether `check_process` failed because another process has taken over.
pub(crate) fn is_takeover(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == TAKEN_OVER)
}

/// The error of a statement with this time limit.
pub(crate) fn backend(error: sqlx::Error, limit: Duration) -> StoreError {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => StoreError::Unavailable(Box::new(error)),
            error => StoreError::backend(error),
        };
    };
    match database.code().as_deref() {
        Some(QUERY_CANCELED) => StoreError::TimeLimit(limit),
        Some(code) if code.starts_with("08") || code.starts_with("28") || UNAVAILABLE.contains(&code) => {
            StoreError::Unavailable(Box::new(error))
        }
        _ => StoreError::backend(error),
    }
}
