//! Data keys, the exporter's cursor, purging.

use std::collections::HashMap;

use omniflow_domain::anomaly::{AnomalyKind, Detection, Evidence};
use omniflow_domain::payload::{SealedDataKey, SealedPayload};
use omniflow_policy::audit::{AuditBatch, AuditItem, DeliveryReport, VmDelivery};
use omniflow_policy::denial::Denial;

use super::Backend;
use super::fixtures::*;
use crate::{EvaluationCursor, ExportBacklog, ExportPlace, OpenGateway, Store};
use omniflow_domain::anomaly::AnomalyFilter;
use omniflow_domain::audit_query::AuditFilter;

/// Data keys are numbered in the order of their creation.
pub async fn data_keys_are_read_back(backend: &impl Backend) {
    let store = backend.open().await;
    assert_eq!(store.data_keys().await.unwrap(), []);
    let first = store.insert_data_key(at(0), b"one", b"sealed one").await.unwrap();
    let second = store.insert_data_key(at(1), b"two", b"sealed two").await.unwrap();
    let expected = |id, name: &[u8]| SealedDataKey {
        id,
        wrapping_key: name.to_vec(),
        sealed: [b"sealed ", name].concat(),
    };
    assert_eq!(store.data_keys().await.unwrap(), [expected(first, b"one"), expected(second, b"two")]);
    assert_eq!(store.data_key(second).await.unwrap(), Some(expected(second, b"two")));
    assert_eq!(store.data_key(second + 1).await.unwrap(), None);
}

/// Data keys are re-encrypted in place.
pub async fn data_keys_are_resealed(backend: &impl Backend) {
    let store = backend.open().await;
    let first = store.insert_data_key(at(0), b"old", b"a").await.unwrap();
    let second = store.insert_data_key(at(1), b"old", b"b").await.unwrap();
    let changed = SealedDataKey { id: first, wrapping_key: b"new".to_vec(), sealed: b"c".to_vec() };
    store.reseal_data_keys(std::slice::from_ref(&changed)).await.unwrap();
    store.reseal_data_keys(&[]).await.unwrap();
    assert_eq!(store.data_key(first).await.unwrap(), Some(changed));
    assert_eq!(store.data_key(second).await.unwrap().unwrap().sealed, b"b");
}

async fn begin_export(store: &dyn Store) {
    let mut transaction = store.begin_log().await.unwrap();
    transaction.begin_export().await.unwrap();
    transaction.commit().await.unwrap();
}

fn calls(first: u64, count: u64) -> Vec<omniflow_policy::audit::AuditRecord> {
    (first..first + count).map(|n| record(n, START + n, None)).collect()
}

/// An export starts after the stored records, once.
pub async fn export_begins_behind_the_log(backend: &impl Backend) {
    let store = backend.open().await;
    assert_eq!(store.export_place().await.unwrap(), None);
    ingest(&*store, calls(1, 3)).await;
    begin_export(&*store).await;
    let place = ExportPlace { record: 3, gap: 1, ..ExportPlace::default() };
    assert_eq!(store.export_place().await.unwrap(), Some(place));
    ingest(&*store, calls(4, 2)).await;
    begin_export(&*store).await;
    assert_eq!(store.export_place().await.unwrap(), Some(place), "it is begun once");
    assert_eq!(
        store.export_backlog(&place).await.unwrap(),
        ExportBacklog { records: 2, oldest: Some(at(4)) }
    );
}

/// The cursor round-trips.
pub async fn export_place_is_set(backend: &impl Backend) {
    let store = backend.open().await;
    begin_export(&*store).await;
    let place = ExportPlace { record: 5, gap: 6, exported: 7, rejected: 8, purged: 9 };
    let mut transaction = store.begin_log().await.unwrap();
    transaction.set_export_place(&place).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.export_place().await.unwrap(), Some(place));
}

/// An export begins after purged records as well.
pub async fn export_begins_behind_purged_records(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, calls(0, 3)).await;
    assert_eq!(store.purge_records(at(DAY), 9).await.unwrap(), 3);
    begin_export(&*store).await;
    let place = store.export_place().await.unwrap().unwrap();
    assert_eq!(place.record, 3);
    assert_eq!(store.export_backlog(&place).await.unwrap(), ExportBacklog { records: 0, oldest: None });
}

/// Records and gaps follow in the order of their numbers.
pub async fn exported_records_follow_by_number(backend: &impl Backend) {
    let store = backend.open().await;
    // A later record with an earlier time, and two gaps.
    ingest(&*store, vec![record(1, START + 9, None), record(3, START + 20, None)]).await;
    ingest_batch(&*store, batch(source(1, 2), vec![AuditItem::Call(record(0, START, None))])).await;
    let numbers = async |after, limit| {
        let records = store.records_after(after, limit).await.unwrap();
        records.iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    assert_eq!((numbers(0, 2).await, numbers(2, 9).await), (vec![1, 2], vec![3]));
    let notices = store.gap_notices_after(0, 9).await.unwrap();
    assert_eq!(
        notices.iter().map(|notice| (notice.gap.id, notice.withdraws)).collect::<Vec<_>>(),
        [(1, None), (2, None)]
    );
    assert_eq!(store.gap_notices_after(1, 9).await.unwrap().len(), 1);
}

/// The oldest records are purged first, up to the limit.
pub async fn records_are_purged_in_steps(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, calls(0, 10)).await;
    assert_eq!(store.purge_records(at(5), 3).await.unwrap(), 3);
    let left: Vec<_> = store
        .audit_entries(&AuditFilter::default(), None, 99)
        .await
        .unwrap()
        .iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(left, [10, 9, 8, 7, 6, 5, 4]);
    assert_eq!(store.purge_records(at(5), 99).await.unwrap(), 2);
    assert_eq!(store.purge_records(at(5), 99).await.unwrap(), 0);
    assert_eq!((store.record_total().await.unwrap(), store.newest_record().await.unwrap()), (10, 10));
}

/// Numbers of purged records are not used again.
pub async fn numbers_are_never_reused(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, calls(0, 3)).await;
    store.purge_records(at(DAY), 99).await.unwrap();
    ingest(&*store, calls(3, 1)).await;
    assert_eq!(store.newest_record().await.unwrap(), 4);
}

/// A purged call still counts as delivered, and its key as used.
pub async fn purging_keeps_streams_and_uses(backend: &impl Backend) {
    let store = backend.open().await;
    let records = vec![record(0, START, Some((id(1), "ci")))];
    ingest(&*store, records.clone()).await;
    store.purge_records(at(DAY), 99).await.unwrap();
    ingest(&*store, records).await;
    assert_eq!(store.record_total().await.unwrap(), 1);
    assert_eq!(store.last_used(&[id(1)]).await.unwrap()[&(id(1), 1)], at(0));
}

/// Gaps are purged by their end; totals stay.
pub async fn gaps_are_purged(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, vec![record(1, START, None), record(3, START + 10, None)]).await;
    assert_eq!(store.purge_gaps(at(0), 9).await.unwrap(), 0);
    assert_eq!(store.purge_gaps(at(10), 9).await.unwrap(), 1);
    assert_eq!(store.audit_gaps(None, 9).await.unwrap().len(), 1);
    assert_eq!(store.gap_totals().await.unwrap()[0].1, 2);
}

/// Quiescent gateways are forgotten sooner.
pub async fn gateways_are_purged(backend: &impl Backend) {
    let store = backend.open().await;
    for (run, quiescent) in [(1, true), (2, false)] {
        let vms = vec![VmDelivery { id: source(run, 1).vm, begun: 1, acknowledged: 0, at: at(0) }];
        let progress = DeliveryReport { clock: 1, at: at(0), quiescent, vms };
        let reported = AuditBatch { source: source(run, 1), delivery: Some(progress), items: Vec::new() };
        ingest_batch(&*store, reported).await;
    }
    assert_eq!(store.purge_gateways(at(0), at(0), 9).await.unwrap(), 0);
    assert_eq!(store.purge_gateways(at(0), at(1), 9).await.unwrap(), 1);
    let open = store.open_gateways(9).await.unwrap();
    assert_eq!(open, [OpenGateway { id: gateway("edge", 2), heard_at: at(0) }]);
    assert_eq!(store.purge_gateways(at(1), at(1), 9).await.unwrap(), 1);
    assert_eq!(store.gateway_reports().await.unwrap(), 0);
}

/// Payloads are purged before their calls; data keys by their age.
pub async fn payloads_and_data_keys_are_purged(backend: &impl Backend) {
    let store = backend.open().await;
    let key = store.insert_data_key(at(0), b"wrapping", b"sealed").await.unwrap();
    let items = calls(0, 3).into_iter().map(AuditItem::Call).collect();
    let payloads: HashMap<_, _> =
        (0..3).map(|n| (n, SealedPayload { data_key: key, sealed: vec![n as u8] })).collect();
    let mut transaction = store.begin_log().await.unwrap();
    transaction.ingest(batch(source(1, 1), items), &payloads, at(0), LATEST).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.purge_payloads(at(2), 1).await.unwrap(), 1);
    assert_eq!((store.payload(1).await.unwrap(), store.payload(2).await.unwrap().is_some()), (None, true));
    assert_eq!(store.purge_payloads(at(2), 9).await.unwrap(), 1);
    assert!(store.payload(3).await.unwrap().is_some());
    assert_eq!(store.record_total().await.unwrap(), 3);
    assert_eq!(store.purge_data_keys(at(0)).await.unwrap(), 0);
    assert_eq!(store.purge_data_keys(at(1)).await.unwrap(), 1);
    assert_eq!(store.data_keys().await.unwrap(), []);
}

/// Anomalies and sums are purged by their last call; totals stay.
pub async fn anomalies_are_purged(backend: &impl Backend) {
    let store = backend.open().await;
    let key = Some((id(1), "ci"));
    let records = vec![
        record(0, START, key),
        record(1, START + 5 * DAY, key),
        refused(2, START, key, Denial::KeyRevoked),
    ];
    ingest(&*store, records).await;
    let evidence = Evidence {
        observed: 1,
        expected: None,
        bound: 1,
        history_days: None,
        networks: Vec::new(),
        status: None,
        version: None,
        reason: None,
    };
    let detection = Detection {
        kind: AnomalyKind::VolumeSpike,
        key_id: id(1),
        key_name: "ci".to_owned(),
        first: at(0),
        last: at(1),
        evidence,
    };
    let mut transaction = store.begin_log().await.unwrap();
    transaction.record_detection(detection, Some(at(1))).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(store.purge_anomalies(at(DAY), at(5 * DAY), 9).await.unwrap() >= 3);
    assert_eq!(store.purge_anomalies(at(DAY), at(5 * DAY), 9).await.unwrap(), 0);
    assert!(store.anomalies(&AnomalyFilter::default(), None, 9).await.unwrap().is_empty());
    assert_eq!(store.waiting_deliveries().await.unwrap(), 0, "what is purged is not delivered");
    assert_eq!(store.anomaly_totals().await.unwrap(), [(AnomalyKind::VolumeSpike, 1)]);
    let changed = store.changed_hours(&mut EvaluationCursor::default(), 9).await.unwrap();
    assert_eq!(changed.len(), 1, "the hour of the later call");
}

/// Reclaiming space changes no content.
pub async fn reclaimed_space_takes_nothing_along(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, calls(0, 500)).await;
    store.purge_records(at(400), 1_000).await.unwrap();
    store.reclaim_space().await.unwrap();
    assert_eq!(store.audit_entries(&AuditFilter::default(), None, 999).await.unwrap().len(), 100);
    let size = store.log_size().await.unwrap();
    assert!(size.bytes > 0 && size.free <= size.bytes, "{size:?}");
}
