//! The order of records, and batches that arrive at the same time or fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use omniflow_domain::admin_event::AdminLogFilter;
use omniflow_domain::anomaly::AnomalyFilter;
use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::key::{Key, KeyReference};
use omniflow_domain::stats::Dimension;
use omniflow_policy::audit::{AuditItem, CallInProgress};
use omniflow_policy::key::Environment;
use tokio::time::Instant;

use super::Backend;
use super::fixtures::*;
use crate::{KeyFilter, Store};

/// Numbers are consecutive: what is rolled back uses up none, whatever the exporter counts as purged.
pub async fn rolled_back_batch_uses_no_numbers(backend: &impl Backend) {
    let store = backend.open().await;
    let items = |first| {
        let records = (first..first + 2).map(|n| record(2 * n + 1, START + n, None));
        records.map(AuditItem::Call).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        let mut transaction = store.begin_log().await.unwrap();
        let none = HashMap::new();
        let stored = transaction.ingest(batch(source(1, 1), items(0)), &none, at(0), LATEST).await.unwrap();
        assert_eq!(stored.missing, 2);
    }
    for first in [0, 2] {
        ingest_batch(&*store, batch(source(1, 1), items(first))).await;
    }
    let numbers = store.records_after(0, 9).await.unwrap();
    assert_eq!(numbers.iter().map(|entry| entry.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let notices = store.gap_notices_after(0, 9).await.unwrap();
    assert_eq!(notices.iter().map(|notice| notice.gap.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let mut transaction = store.begin_log().await.unwrap();
    transaction.begin_export().await.unwrap();
    transaction.commit().await.unwrap();
    let place = store.export_place().await.unwrap().unwrap();
    assert_eq!((place.record, place.gap), (4, 4));
}

/// A reader that continues after the newest number sees every record once, while several writers store batches.
pub async fn follower_misses_nothing(backend: &impl Backend) {
    const WRITERS: u64 = 6;
    const BATCHES: u64 = 20;
    let store = backend.open().await;
    let has_ended = Arc::new(AtomicBool::new(false));
    let follower = {
        let (store, has_ended) = (Arc::clone(&store), Arc::clone(&has_ended));
        tokio::spawn(async move {
            let (mut position, mut seen) = (0, Vec::new());
            loop {
                let is_last = has_ended.load(Ordering::SeqCst);
                let newest = store.newest_record().await.unwrap();
                let filter = AuditFilter::default();
                let found = store.audit_entries_between(&filter, position, newest).await.unwrap();
                seen.extend(found.iter().map(|entry| entry.id));
                position = newest;
                if is_last {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let write = |store: Arc<dyn Store>, writer: u64| async move {
        for n in 0..BATCHES {
            let items = (0..3).map(|i| AuditItem::Call(record(3 * n + i, START + n, None))).collect();
            if n % 5 == writer % 5 {
                // A batch that is rolled back, and then arrives again.
                let mut transaction = store.begin_log().await.unwrap();
                let again = batch(source(1, writer), Vec::clone(&items));
                transaction.ingest(again, &HashMap::new(), at(0), LATEST).await.unwrap();
            }
            ingest_batch(&*store, batch(source(1, writer), items)).await;
        }
    };
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&store), writer))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    has_ended.store(true, Ordering::SeqCst);
    let expected: Vec<_> = (1..=i64::try_from(WRITERS * BATCHES * 3).unwrap()).collect();
    assert_eq!(follower.await.unwrap(), expected);
}

/// A faulty gateway may send zero bytes. The batch is stored, with or without them; rejected, it would arrive forever.
pub async fn zero_bytes_are_accepted(backend: &impl Backend) {
    let store = backend.open().await;
    let mut strange = record(0, START, Some((id(1), "c\0i")));
    strange.method = "G\0".to_owned();
    strange.endpoint = Some("/\0".to_owned());
    strange.path = "/a\0b".to_owned();
    strange.request_id = "\0".to_owned();
    let in_progress = CallInProgress { number: 0, record: record(1, START, Some((id(2), "\0"))) };
    let items = vec![AuditItem::Call(strange), AuditItem::InProgress(in_progress)];
    assert_eq!(ingest_batch(&*store, batch(source(1, 1), items)).await.missing, 0);
    let stored = store.audit_entry(1).await.unwrap().unwrap();
    assert!(["/a\0b", "/a\u{fffd}b"].contains(&stored.path.as_str()), "{:?}", stored.path);
    let filter = AuditFilter { endpoint: Some("/\0".to_owned()), ..AuditFilter::default() };
    assert_eq!(store.audit_entries(&filter, None, 9).await.unwrap().len(), 1);
    assert_eq!(store.calls_in_progress(None, None, 9).await.unwrap().len(), 1);
}

/// Nothing that a client searches for is an error of the database.
pub async fn texts_with_zero_bytes_are_searched(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, vec![record(0, START, Some((id(1), "ci")))]).await;
    let strange = Key { description: Some("of the b\0t".to_owned()), ..key(1) };
    insert_keys(&*store, std::slice::from_ref(&strange)).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.update_key(&strange).await.unwrap();
    transaction.commit().await.unwrap();
    let reference = || KeyReference::Name("key-1\0".to_owned());
    assert!(store.key(&KeyReference::Id(id(1))).await.unwrap().is_some());
    assert!(store.key(&reference()).await.unwrap().is_none());
    for text in ["\0", "k\0y", "\0_%\\", "of the key-1\0", "key-1\0key-1"] {
        for environment in [None, Some(Environment::Live)] {
            let filter = KeyFilter { text: Some(text.to_owned()), environment, ..KeyFilter::default() };
            assert!(store.keys(&filter, None, 9).await.is_ok(), "{text:?}");
        }
        let text = || Some(text.to_owned());
        for (principal, subject) in [(text(), None), (None, text()), (text(), text())] {
            let filter = AdminLogFilter { principal, subject, ..AdminLogFilter::default() };
            assert_eq!(store.admin_events(&filter, None, 9).await.unwrap().len(), 0);
        }
        for filter in [
            AuditFilter { endpoint: text(), ..AuditFilter::default() },
            AuditFilter { method: text(), ..AuditFilter::default() },
            AuditFilter { key: Some(reference()), method: text(), ..AuditFilter::default() },
        ] {
            let deadline = Instant::now() + Duration::from_secs(60);
            let page = store.search_calls(&filter, None, 9, deadline).await.unwrap();
            assert_eq!(page.found.len(), 0, "{filter:?}");
            assert_eq!(store.audit_entries(&filter, None, 9).await.unwrap().len(), 0);
            assert_eq!(store.recorded_calls(&filter, None, 9).await.unwrap().len(), 0);
            assert_eq!(store.audit_entries_between(&filter, 0, 9).await.unwrap().len(), 0);
            let users = store.search_users(&filter, 9, deadline).await.unwrap();
            assert_eq!(users.found.len(), 0);
            let span = (at(0), at(HOUR));
            let stats = store.audit_stats(&filter, span, &[Dimension::Key], 9).await.unwrap();
            assert_eq!(stats.total.calls, 0);
            let timeline = store.audit_timeline(&filter, span, HOUR, None).await.unwrap();
            assert_eq!(timeline.total.calls, 0);
        }
    }
    assert_eq!(store.calls_in_progress(Some(&reference()), None, 9).await.unwrap().len(), 0);
    let filter = AnomalyFilter { key: Some(reference()), ..AnomalyFilter::default() };
    assert_eq!(store.anomalies(&filter, None, 9).await.unwrap().len(), 0);
}
