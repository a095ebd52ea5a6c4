//! The schema: migrations, and what the database itself enforces.

use omniflow_domain::admin_event::AdminLogFilter;
use omniflow_domain::key::KeyReference;
use omniflow_policy::snapshot::ImageBuilder;
use omniflow_policy::time::UnixMillis;
use omniflow_store::contract::fixtures::{
    START, event, ingest, insert_keys, insert_tokens, key, record, token,
};
use omniflow_store::{AdminLogStore, KeyFilter, KeyStore, RequestLogStore, Store, StoreError, TokenStore};
use omniflow_store_postgres::{PostgresSettings, PostgresStore};
use omniflow_test_postgres::{Server, TestDatabase};

async fn open(database: &TestDatabase) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(PostgresSettings::new(database.url().parse().unwrap())).await
}

fn new_database() -> TestDatabase {
    TestDatabase::create(Server::shared(), "template1")
}

#[tokio::test]
async fn database_of_a_newer_release_is_rejected() {
    let database = new_database();
    open(&database).await.unwrap().close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'later', true, '', 0)";
    database.execute(newer).await;
    let refused = open(&database).await.unwrap_err();
    let StoreError::NewerRelease { database: shown, version: 99 } = &refused else { panic!("{refused:?}") };
    assert!(shown.starts_with("postgres://omf@localhost"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn altered_migration_is_rejected() {
    let database = new_database();
    open(&database).await.unwrap().close().await;
    database.execute("UPDATE _sqlx_migrations SET checksum = '' WHERE version = 1").await;
    let refused = open(&database).await.unwrap_err();
    assert!(matches!(refused, StoreError::Migration { .. }), "{refused:?}");
}

#[tokio::test]
async fn other_encodings_are_rejected() {
    let database = new_database();
    let name = format!("{}_latin", database.name());
    database.administer(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1'"));
    let url = database.url().replace(database.name(), &name);
    let refused =
        PostgresStore::open(PostgresSettings::new(url.parse().unwrap())).await.unwrap_err().to_string();
    assert!(refused.contains("LATIN1") && refused.contains("ENCODING 'UTF8'"), "{refused}");
}

#[tokio::test]
async fn admin_log_entries_cannot_be_changed_or_deleted() {
    let database = new_database();
    let store = open(&database).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_admin_event(&event(None, UnixMillis(START), "key-1")).await.unwrap();
    transaction.commit().await.unwrap();
    for statement in
        ["UPDATE admin_log SET principal_name = 'nobody'", "DELETE FROM admin_log", "TRUNCATE admin_log"]
    {
        let refused = database.try_execute(statement).await.unwrap_err();
        assert!(refused.contains("admin events are not changed or deleted"), "{refused}");
    }
    assert_eq!(store.admin_events(&AdminLogFilter::default(), None, 9).await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn invalid_values_are_corrupt() {
    let database = new_database();
    let store = open(&database).await.unwrap();
    insert_keys(&store, &[key(1)]).await;
    insert_tokens(&store, &[token(1)]).await;
    ingest(&store, vec![record(0, START, None)]).await;
    let reference = KeyReference::from("key-1");
    for (wrong, right, what) in [
        ("per_minute = NULL", "per_minute = 60", "a rate limit"),
        ("per_minute = 0", "per_minute = 60", "a rate limit"),
        ("per_minute = -1", "per_minute = 60", "a rate limit"),
        ("burst = 0", "burst = NULL", "a rate limit"),
        ("environment = 'prod'", "environment = 'live'", "an environment"),
        ("scopes = 'all'", "scopes = ''", "scopes"),
        ("ip_allowlist = 'here'", "ip_allowlist = ''", "an IP allowlist"),
    ] {
        database.execute(&format!("UPDATE keys SET {wrong}")).await;
        let found = store.key(&reference).await;
        assert!(matches!(&found, Err(StoreError::Corrupt(named)) if *named == what), "{wrong}: {found:?}");
        let read = store.read_credentials(0, 1, &mut ImageBuilder::new(1)).await;
        assert!(read.is_err(), "{wrong}: no gateway may get it");
        database.execute(&format!("UPDATE keys SET {right}")).await;
        assert!(store.key(&reference).await.unwrap().is_some());
    }
    database.execute("UPDATE tokens SET name = ' '; UPDATE keys SET name = ' '").await;
    assert!(matches!(store.tokens(None, 9).await, Err(StoreError::Corrupt("the name of a token"))));
    let keys = store.keys(&KeyFilter::default(), None, 9).await;
    assert!(matches!(keys, Err(StoreError::Corrupt("the name of a key"))));
    database.execute("UPDATE audit_records SET reason = 'because'").await;
    assert!(matches!(store.audit_entry(1).await, Err(StoreError::Corrupt("a reason"))));
    store.close().await;
}
