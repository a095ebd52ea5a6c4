//! The time limit of reads that consist of several statements. A single statement has that of its connection.

use std::time::Duration;

use omniflow_store::{Result, StoreError};
use tokio::time::timeout;

/// The time limit of one operation, including the wait for connections.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Runs an operation that may take long. A statement that is still running at the limit is stopped.
///
/// # Errors
///
/// [`StoreError::TimeLimit`] if it does not end in time.
pub(crate) async fn in_time<T>(operation: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(TIME_LIMIT, operation).await.unwrap_or(Err(StoreError::TimeLimit(TIME_LIMIT)))
}
