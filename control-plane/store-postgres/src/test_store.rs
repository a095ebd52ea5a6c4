//! Stores of unit tests.

use omniflow_test_postgres::{Server, TestDatabase};
use sqlx::postgres::PgRow;

use crate::{PostgresSettings, PostgresStore};

/// A store in a new database, which is removed when the second value is dropped.
pub(crate) async fn new_store() -> (PostgresStore, TestDatabase) {
    let create = || TestDatabase::create(Server::shared(), "template1");
    let database = tokio::task::spawn_blocking(create).await.unwrap();
    let store = PostgresStore::open(PostgresSettings::new(database.url().parse().unwrap())).await.unwrap();
    (store, database)
}

/// The rows of a query.
pub(crate) async fn rows(store: &PostgresStore, query: &str) -> Vec<PgRow> {
    let query = sqlx::query(sqlx::AssertSqlSafe(query.to_owned()));
    store.database.reader().await.unwrap().rows(query).await.unwrap()
}

/// Executes a statement.
pub(crate) async fn execute(store: &PostgresStore, statement: &str) {
    let statement = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()));
    store.database.writer().await.unwrap().execute(statement).await.unwrap();
}
