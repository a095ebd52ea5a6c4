//! Maintenance of the databases: checkpoints of the main database, and merging of its search index.
//!
//! By default, SQLite checkpoints in the commit that writes the thousandth page, and all commits after it wait.
//! Here it happens after every commit, in small steps: a disk that is busy with a large checkpoint delays commits too.

use std::time::Duration;

use async_trait::async_trait;
use omniflow_store::metrics::Operation;
use omniflow_store::{LogTransaction, Result, Store, StoreMetrics, Transaction};
use tokio::time::sleep;

use crate::SqliteStore;
use crate::database::SqliteTransaction;

/// The pause between two rounds while changes are committed.
const PAUSE: Duration = Duration::from_millis(20);

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(self.main.begin().await?.measured_as(Operation::AdminTransaction)))
    }

    async fn begin_log(&self) -> Result<Box<dyn LogTransaction>> {
        Ok(Box::new(self.audit.begin().await?.measured_as(Operation::LogTransaction)))
    }

    async fn ping(&self) -> Result<()> {
        self.main.ping().await?;
        self.audit.ping().await
    }

    fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// Checkpoints both databases, so that their write-ahead logs are empty.
    async fn close(&self) {
        self.main.close().await;
        self.sorters.close().await;
        self.audit.close().await;
    }

    async fn maintain(&self) {
        loop {
            self.main.committed().await;
            if let Err(error) = self.main.checkpoint().await {
                tracing::warn!(%error, "checkpoint failed, write-ahead log grows");
            }
            // A merge is a commit as well, so this continues until there is nothing left to merge.
            if let Err(error) = self.merge_search_segments().await {
                tracing::warn!(%error, "search index merge failed, searches become slower");
            }
            sleep(PAUSE).await;
        }
    }
}

#[async_trait]
impl Transaction for SqliteTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        (*self).commit().await
    }
}

#[async_trait]
impl LogTransaction for SqliteTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        (*self).commit().await
    }
}
