use omniflow_domain::key::KeyReference;
use omniflow_policy::snapshot::ImageBuilder;
use omniflow_store::contract::fixtures::{START, ingest, insert_keys, insert_tokens, key, record, token};
use omniflow_store::{KeyFilter, KeyStore, RequestLogStore, Store, StoreError, TokenStore};

use super::*;

async fn change(database: &Database, statement: &'static str) {
    let mut transaction = database.begin().await.unwrap();
    sqlx::query(statement).execute(transaction.connection()).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn invalid_values_are_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    insert_keys(&store, &[key(1)]).await;
    insert_tokens(&store, &[token(1)]).await;
    ingest(&store, vec![record(0, START, None)]).await;
    let reference = KeyReference::from("key-1");
    for (wrong, right, what) in [
        ("per_minute = NULL", "per_minute = 60", "a rate limit"),
        ("per_minute = 0", "per_minute = 60", "a rate limit"),
        ("burst = 0", "burst = NULL", "a rate limit"),
        ("environment = 'prod'", "environment = 'live'", "an environment"),
        ("scopes = 'all'", "scopes = ''", "scopes"),
        ("ip_allowlist = 'here'", "ip_allowlist = ''", "an IP allowlist"),
    ] {
        let set = |values: &str| -> &'static str { format!("UPDATE keys SET {values}").leak() };
        change(&store.main, set(wrong)).await;
        let found = store.key(&reference).await;
        assert!(matches!(&found, Err(StoreError::Corrupt(named)) if *named == what), "{wrong}: {found:?}");
        let read = store.read_credentials(0, 1, &mut ImageBuilder::new(1)).await;
        assert!(read.is_err(), "{wrong}: no gateway may get it");
        change(&store.main, set(right)).await;
        assert!(store.key(&reference).await.unwrap().is_some());
    }
    change(&store.main, "UPDATE tokens SET name = ' '").await;
    assert!(matches!(store.tokens(None, 9).await, Err(StoreError::Corrupt("the name of a token"))));
    change(&store.main, "UPDATE keys SET name = ' '").await;
    let keys = store.keys(&KeyFilter::default(), None, 9).await;
    assert!(matches!(keys, Err(StoreError::Corrupt("the name of a key"))));
    change(&store.audit, "UPDATE audit_records SET reason = 'because'").await;
    assert!(matches!(store.audit_entry(1).await, Err(StoreError::Corrupt("a reason"))));
}

#[tokio::test]
async fn data_directory_is_used_by_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = SqliteStore::open(folder.path()).await.unwrap();
    let second = SqliteStore::open(folder.path()).await;
    assert!(matches!(&second, Err(StoreError::InUse(path)) if path == folder.path()), "{second:?}");
    first.close().await;
    drop(first);
    SqliteStore::open(folder.path()).await.unwrap();
}

#[tokio::test]
async fn database_of_a_newer_release_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    change(
        &store.main,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'later', 1, x'00', 0)",
    )
    .await;
    store.close().await;
    drop(store);
    let refused = SqliteStore::open(folder.path()).await;
    assert!(matches!(refused, Err(StoreError::NewerRelease { version: 99, .. })), "{refused:?}");
}
