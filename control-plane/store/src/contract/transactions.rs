//! Transactions: isolation, order, rollback, durability.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::Backend;
use super::fixtures::*;
use crate::KeyFilter;
use crate::metrics::Operation;
use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::key::KeyReference;

/// How long a blocked transaction is watched.
const WATCHED: Duration = Duration::from_millis(50);
/// How long a transaction that is not blocked may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Readers see a change after its commit.
pub async fn uncommitted_change_is_invisible(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(1)]).await.unwrap();
    assert!(store.key(&KeyReference::Id(id(1))).await.unwrap().is_none());
    assert!(transaction.key(&KeyReference::Id(id(1))).await.unwrap().is_some());
    transaction.commit().await.unwrap();
    assert!(store.key(&KeyReference::Id(id(1))).await.unwrap().is_some());
}

/// A dropped transaction leaves nothing, and the next one begins.
pub async fn dropped_transaction_is_rolled_back(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(1)]).await.unwrap();
    drop(transaction);
    let mut transaction = store.begin().await.unwrap();
    assert!(!transaction.key_name_is_taken(&key(1).name).await.unwrap());
    transaction.insert_keys(&[key(1)]).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(store.key(&KeyReference::Id(id(1))).await.unwrap().is_some());
}

/// The same for the request log.
pub async fn dropped_log_transaction_is_rolled_back(backend: &impl Backend) {
    let store = backend.open().await;
    let items = vec![omniflow_policy::audit::AuditItem::Call(record(0, START, None))];
    let mut transaction = store.begin_log().await.unwrap();
    let stored = batch(source(1, 1), items);
    transaction.ingest(stored.clone(), &Default::default(), at(0), LATEST).await.unwrap();
    drop(transaction);
    assert_eq!(store.newest_record().await.unwrap(), 0);
    ingest_batch(&*store, stored).await;
    assert_eq!(store.audit_entries(&AuditFilter::default(), None, 9).await.unwrap().len(), 1);
}

/// Many dropped transactions do not exhaust the store.
pub async fn transactions_can_be_dropped_again_and_again(backend: &impl Backend) {
    let store = backend.open().await;
    for n in 0..50 {
        let mut transaction = store.begin().await.unwrap();
        if n % 2 == 0 {
            transaction.insert_keys(&[key(1)]).await.unwrap();
        }
    }
    insert_keys(&*store, &[key(1)]).await;
}

/// A failed statement does not undo the committed rows of others.
pub async fn failed_transaction_changes_nothing(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(2)]).await.unwrap();
    assert!(transaction.insert_keys(&[key(1)]).await.is_err());
    drop(transaction);
    let keys = store.keys(&KeyFilter::default(), None, 9).await.unwrap();
    assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), [id(1)]);
}

/// A second transaction waits for the first one.
pub async fn second_transaction_waits(backend: &impl Backend) {
    let store = backend.open().await;
    let first = store.begin().await.unwrap();
    assert!(timeout(WATCHED, store.begin()).await.is_err());
    first.commit().await.unwrap();
    timeout(PATIENCE, store.begin()).await.unwrap().unwrap();
}

/// A second log transaction waits for the first one.
pub async fn second_log_transaction_waits(backend: &impl Backend) {
    let store = backend.open().await;
    let first = store.begin_log().await.unwrap();
    assert!(timeout(WATCHED, store.begin_log()).await.is_err());
    drop(first);
    timeout(PATIENCE, store.begin_log()).await.unwrap().unwrap();
}

/// The two kinds of transactions do not wait for each other.
pub async fn both_kinds_of_transactions_are_independent(backend: &impl Backend) {
    let store = backend.open().await;
    let admin = store.begin().await.unwrap();
    let log = timeout(PATIENCE, store.begin_log()).await.unwrap().unwrap();
    log.commit().await.unwrap();
    admin.commit().await.unwrap();
}

/// Readers never wait for a writer.
pub async fn readers_do_not_wait(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(2)]).await.unwrap();
    let keys = timeout(PATIENCE, store.keys(&KeyFilter::default(), None, 9)).await.unwrap().unwrap();
    assert_eq!(keys.len(), 1);
    transaction.commit().await.unwrap();
}

/// A transaction is owned: it can be moved to another task and committed there.
pub async fn transaction_is_committed_by_another_task(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(1)]).await.unwrap();
    tokio::spawn(async move { transaction.commit().await.unwrap() }).await.unwrap();
    assert!(store.key(&KeyReference::Id(id(1))).await.unwrap().is_some());
}

/// Concurrent changes are all applied, one after another.
pub async fn concurrent_changes_are_serialised(backend: &impl Backend) {
    let store = backend.open().await;
    let open = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (1..=20)
        .map(|n| {
            let (store, open) = (Arc::clone(&store), Arc::clone(&open));
            tokio::spawn(async move {
                let mut transaction = store.begin().await.unwrap();
                assert_eq!(open.fetch_add(1, Ordering::SeqCst), 0);
                transaction.insert_keys(&[key(n)]).await.unwrap();
                open.fetch_sub(1, Ordering::SeqCst);
                if n % 4 == 0 {
                    return;
                }
                transaction.commit().await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.keys(&KeyFilter::default(), None, 99).await.unwrap().len(), 15);
}

/// A future that is dropped while it waits for its turn leaves no transaction behind.
pub async fn abandoned_begin_blocks_nobody(backend: &impl Backend) {
    let store = backend.open().await;
    for _ in 0..5 {
        let first = store.begin().await.unwrap();
        let _ = timeout(Duration::from_millis(5), store.begin()).await;
        drop(first);
        let _ = timeout(Duration::ZERO, store.begin()).await;
    }
    timeout(PATIENCE, insert_keys(&*store, &[key(1)])).await.unwrap();
}

/// Committed data survives closing and reopening the store.
pub async fn committed_change_survives_a_restart(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    ingest(&*store, vec![record(0, START, None)]).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(2)]).await.unwrap();
    drop(transaction);
    store.close().await;
    drop(store);
    let store = backend.open().await;
    let keys = store.keys(&KeyFilter::default(), None, 9).await.unwrap();
    assert_eq!(keys, [key(1)]);
    assert_eq!(store.newest_record().await.unwrap(), 1);
}

/// An open store responds; a closed one does not.
pub async fn ping_fails_once_closed(backend: &impl Backend) {
    let store = backend.open().await;
    store.ping().await.unwrap();
    store.close().await;
    assert!(store.ping().await.is_err());
}

/// Each operation is recorded once, under its kind. A transaction that is dropped is not.
pub async fn operations_are_measured(backend: &impl Backend) {
    let store = backend.open().await;
    let metrics = store.metrics().clone();
    let counts = || Operation::ALL.map(|operation| metrics.count(operation));
    let before = counts();
    let since = || -> Vec<(Operation, u64)> {
        let both = counts().into_iter().zip(before).map(|(now, before)| now - before);
        Operation::ALL.into_iter().zip(both).filter(|(_, count)| *count > 0).collect()
    };
    drop(store.begin().await.unwrap());
    assert_eq!(since(), []);
    assert!(store.key(&KeyReference::Id(id(1))).await.unwrap().is_none());
    assert_eq!(since(), [(Operation::Read, 1)]);
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(1)]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(since(), [(Operation::Read, 1), (Operation::AdminTransaction, 1)]);
    let items = vec![omniflow_policy::audit::AuditItem::Call(record(0, START, None))];
    ingest_batch(&*store, batch(source(1, 1), items)).await;
    store.begin_log().await.unwrap().commit().await.unwrap();
    let expected =
        [Operation::Read, Operation::AdminTransaction, Operation::Ingest, Operation::LogTransaction];
    assert_eq!(since(), expected.map(|operation| (operation, 1)));
}

/// Upkeep runs in parallel with changes and can be stopped at any point.
pub async fn maintenance_runs_beside_changes(backend: &impl Backend) {
    let store = backend.open().await;
    for round in 0..3 {
        let changes = async {
            for n in 1..=10 {
                insert_keys(&*store, &[key(round * 10 + n)]).await;
            }
        };
        tokio::select! {
            () = store.maintain() => panic!("maintenance ended"),
            () = changes => {}
        }
    }
    assert_eq!(store.keys(&KeyFilter::default(), None, 99).await.unwrap().len(), 30);
}
