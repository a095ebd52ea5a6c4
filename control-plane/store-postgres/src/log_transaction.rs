//! A transaction on the request log.

use async_trait::async_trait;
use omniflow_store::{LogTransaction, Result};

use crate::transaction::PostgresTransaction;

#[async_trait]
impl LogTransaction for PostgresTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        (*self).commit().await
    }
}
