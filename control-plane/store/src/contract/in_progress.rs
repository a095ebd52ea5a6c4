//! Calls that have not ended.

use omniflow_domain::key::KeyReference;
use omniflow_policy::audit::{
    AuditBatch, AuditItem, AuditRecord, CallEnd, CallInProgress, DeliveryReport, ReportedGap,
    ReportedGapCause, VmDelivery,
};

use super::Backend;
use super::fixtures::*;
use crate::{MAX_CALLS_IN_PROGRESS, Store};

fn in_progress(number: u64, record: AuditRecord) -> AuditItem {
    AuditItem::InProgress(CallInProgress { number, record })
}

fn ended(number: u64, sequence: u64) -> AuditItem {
    AuditItem::Ended(CallEnd { number, sequence, time: at(0) })
}

async fn listed_calls(store: &dyn Store) -> Vec<(String, bool)> {
    let calls = store.calls_in_progress(None, None, 9).await.unwrap();
    calls.into_iter().map(|call| (call.request_id, call.is_lost)).collect()
}

/// A call in progress is no record: it is counted when it ends. Its key counts as used at its start.
pub async fn call_is_listed_until_its_record_arrives(backend: &impl Backend) {
    let store = backend.open().await;
    let call = |sequence| record(sequence, START + 5, Some((id(1), "ci")));
    let begun = vec![AuditItem::Call(record(0, START, None)), in_progress(0, call(1))];
    for _ in 0..2 {
        ingest_batch(&*store, batch(source(1, 1), begun.clone())).await;
        assert_eq!(listed_calls(&*store).await, [("request-1".to_owned(), false)]);
    }
    let read = store.calls_in_progress(Some(&KeyReference::Name("ci".to_owned())), None, 9).await.unwrap();
    assert_eq!((read[0].time, read[0].gateway.as_str(), &read[0].key), (at(5), "edge", &call(1).key));
    assert_eq!(store.calls_in_progress(Some(&KeyReference::Id(id(2))), None, 9).await.unwrap(), []);
    assert_eq!(store.calls_in_progress(None, Some(read[0].id), 9).await.unwrap(), []);
    assert_eq!(store.record_total().await.unwrap(), 1);
    assert_eq!(store.last_used(&[id(1)]).await.unwrap()[&(id(1), 1)], at(5));
    // Another call ends first. The batch with the start may arrive again after the end.
    let rest = vec![AuditItem::Call(record(1, START + 6, None)), AuditItem::Call(call(2)), ended(0, 3)];
    for items in [rest, begun] {
        assert_eq!(ingest_batch(&*store, batch(source(1, 1), items)).await.missing, 0);
        assert_eq!(listed_calls(&*store).await, []);
        assert_eq!(store.record_total().await.unwrap(), 3);
    }
}

/// A call that began and ended in one batch is not in progress. Calls of a VM or gateway that is lost are marked.
pub async fn call_is_marked_when_its_gateway_is_lost(backend: &impl Backend) {
    let store = backend.open().await;
    let call = |sequence| record(sequence, START, Some((id(1), "ci")));
    let whole = vec![in_progress(0, call(0)), AuditItem::Call(call(0)), ended(0, 1), in_progress(1, call(1))];
    let vm = |id, begun| VmDelivery { id: source(1, id).vm, begun, acknowledged: 0, at: at(1) };
    let report = |clock| DeliveryReport { clock, at: at(1), quiescent: false, vms: vec![vm(1, 2), vm(2, 1)] };
    let of_vm =
        |vm, items, clock| AuditBatch { delivery: Some(report(clock)), ..batch(source(1, vm), items) };
    ingest_batch(&*store, of_vm(1, whole, 1)).await;
    ingest_batch(&*store, of_vm(2, vec![in_progress(0, call(7))], 2)).await;
    let calls = |first, second| [("request-7".to_owned(), second), ("request-1".to_owned(), first)];
    assert_eq!(listed_calls(&*store).await, calls(false, false));
    let cause = ReportedGapCause::VmLost;
    let lost = ReportedGap { sequence: 1, calls: 1, cause, from: None, to: at(8) };
    ingest_batch(&*store, of_vm(1, vec![AuditItem::Gap(lost)], 3)).await;
    assert_eq!(listed_calls(&*store).await, calls(true, false));
    let open = store.open_gateways(9).await.unwrap().remove(0);
    let mut transaction = store.begin_log().await.unwrap();
    assert!(transaction.lose_gateway(&open, at(60)).await.unwrap().is_some());
    transaction.commit().await.unwrap();
    assert_eq!(listed_calls(&*store).await, calls(true, true));
    ingest_batch(&*store, of_vm(2, Vec::new(), 4)).await;
    assert_eq!(listed_calls(&*store).await, calls(true, false), "the gateway is back, its VM is not");
}

/// The calls that were reported first give way to later ones. A gateway could otherwise fill the log with calls that never end.
pub async fn calls_in_progress_have_a_maximum(backend: &impl Backend) {
    let store = backend.open().await;
    let maximum = u64::try_from(MAX_CALLS_IN_PROGRESS).unwrap();
    let call = |number| in_progress(number, record(number, START, None));
    ingest_batch(&*store, batch(source(1, 1), (0..maximum).map(call).collect())).await;
    let first = async || {
        let oldest = store.calls_in_progress(None, Some(4), 9).await.unwrap();
        oldest.last().map(|call| call.request_id.clone())
    };
    assert_eq!(first().await.as_deref(), Some("request-0"));
    ingest_batch(&*store, batch(source(1, 2), vec![call(maximum), call(maximum + 1)])).await;
    assert_eq!(first().await.as_deref(), Some("request-2"));
}

/// Old calls in progress are deleted in steps.
pub async fn calls_in_progress_are_purged(backend: &impl Backend) {
    let store = backend.open().await;
    let calls = (0..3).map(|n| in_progress(n, record(0, START + n, None))).collect();
    ingest_batch(&*store, batch(source(1, 1), calls)).await;
    assert_eq!(store.purge_calls_in_progress(at(0), 9).await.unwrap(), 0);
    assert_eq!(store.purge_calls_in_progress(at(2), 1).await.unwrap(), 1);
    assert_eq!(store.purge_calls_in_progress(at(2), 9).await.unwrap(), 1);
    assert_eq!(listed_calls(&*store).await.len(), 1);
}
