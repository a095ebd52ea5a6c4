//! The suite that every backend passes.

use std::sync::Arc;

use async_trait::async_trait;
use omniflow_store::Store;
use omniflow_store::contract::Backend;
use omniflow_store_sqlite::SqliteStore;
use tempfile::TempDir;

/// A data directory for one test.
struct DataDirectory(TempDir);

#[async_trait(?Send)]
impl Backend for DataDirectory {
    async fn create() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.0.path().join("data")).await.unwrap())
    }
}

omniflow_store::contract_tests!(DataDirectory);
