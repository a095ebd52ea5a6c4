//! The store as a whole: transactions, health, shutdown.

use async_trait::async_trait;
use omniflow_store::metrics::Operation;
use omniflow_store::{LogTransaction, Result, Store, StoreMetrics, Transaction};

use crate::PostgresStore;

#[async_trait]
impl Store for PostgresStore {
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(self.begin_main().await?.measured_as(Operation::AdminTransaction)))
    }

    async fn begin_log(&self) -> Result<Box<dyn LogTransaction>> {
        Ok(Box::new(self.begin_log().await?.measured_as(Operation::LogTransaction)))
    }

    async fn ping(&self) -> Result<()> {
        self.turns.check(&self.database).await?;
        // Fails if another process has taken over, too.
        let check = sqlx::query("SELECT check_process($1)").bind(self.process.id());
        self.database.reader().await?.execute(check).await?;
        Ok(())
    }

    fn metrics(&self) -> &StoreMetrics {
        self.database.metrics()
    }

    async fn close(&self) {
        self.database.close().await;
        self.process.release().await;
    }

    async fn maintain(&self) {
        self.process.keep(&self.database).await;
    }
}
