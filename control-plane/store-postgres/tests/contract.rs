//! The suite that every backend passes, on a real server.

use std::sync::Arc;
use std::sync::OnceLock;

use async_trait::async_trait;
use omniflow_store::Store;
use omniflow_store::contract::Backend;
use omniflow_store_postgres::{PostgresSettings, PostgresStore};
use omniflow_test_postgres::{Server, TestDatabase};

/// A database for one test.
struct Database(TestDatabase);

async fn open(database: &TestDatabase) -> PostgresStore {
    PostgresStore::open(PostgresSettings::new(database.url().parse().unwrap())).await.unwrap()
}

/// A database with the schema, of which those of the tests are copies.
fn template() -> &'static str {
    static TEMPLATE: OnceLock<TestDatabase> = OnceLock::new();
    let migrate = || {
        let database = TestDatabase::create(Server::shared(), "template1");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { open(&database).await.close().await });
        database
    };
    // Not in the runtime of a test, which cannot block.
    TEMPLATE.get_or_init(|| std::thread::spawn(migrate).join().unwrap()).name()
}

#[async_trait(?Send)]
impl Backend for Database {
    async fn create() -> Self {
        Self(TestDatabase::create(Server::shared(), template()))
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(open(&self.0).await)
    }
}

omniflow_store::contract_tests!(Database);
