//! Gateways: sightings, progress reports, losses.

use omniflow_domain::audit::GapCause;
use omniflow_domain::gateway::{GatewayToken, Sighting};
use omniflow_policy::audit::{AuditBatch, AuditItem, DeliveryReport, VmDelivery};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::Incarnation;

use super::Backend;
use super::fixtures::*;
use crate::{Ingested, OpenGateway, Store};

async fn note(store: &dyn Store, sightings: &[Sighting]) {
    let mut transaction = store.begin().await.unwrap();
    transaction.note_sightings(sightings).await.unwrap();
    transaction.commit().await.unwrap();
}

/// The most recently seen gateways come first.
pub async fn sightings_are_listed(backend: &impl Backend) {
    let store = backend.open().await;
    let seen = [sighting("a", 1, 0, 10), sighting("a", 2, 0, 30), sighting("b", 1, 0, 20)];
    note(&*store, &seen).await;
    let found = store.sightings(at(0), 9).await.unwrap();
    assert_eq!(found, [seen[1].clone(), seen[2].clone(), seen[0].clone()]);
    assert_eq!(store.sightings(at(20), 9).await.unwrap().len(), 2);
    assert_eq!(store.sightings(at(0), 1).await.unwrap(), [seen[1].clone()]);
}

/// The first sighting of a gateway stays.
pub async fn later_sighting_keeps_the_first(backend: &impl Backend) {
    let store = backend.open().await;
    note(&*store, &[sighting("a", 1, 5, 10)]).await;
    note(&*store, &[sighting("a", 1, 7, 20)]).await;
    assert_eq!(store.sightings(at(0), 9).await.unwrap(), [sighting("a", 1, 5, 20)]);
}

/// The token, the end of the connection and the undelivered records are those of the last sighting.
pub async fn sighting_is_replaced_by_a_later_note(backend: &impl Backend) {
    let store = backend.open().await;
    let used = GatewayToken { id: id(7), digest: Digest::of(b"token") };
    let first =
        Sighting { token: Some(used), hung_up_at: Some(at(9)), is_busy: true, ..sighting("a", 1, 5, 10) };
    note(&*store, std::slice::from_ref(&first)).await;
    assert_eq!(store.sightings(at(0), 9).await.unwrap(), [first]);
    note(&*store, &[sighting("a", 1, 5, 20)]).await;
    assert_eq!(store.sightings(at(0), 9).await.unwrap(), [sighting("a", 1, 5, 20)]);
}

/// Only the named runs are removed.
pub async fn removed_sighting_is_gone(backend: &impl Backend) {
    let store = backend.open().await;
    note(&*store, &[sighting("a", 1, 0, 1), sighting("a", 2, 0, 2), sighting("b", 1, 0, 3)]).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.remove_sightings(&[gateway("a", 1), gateway("c", 1)]).await.unwrap();
    transaction.commit().await.unwrap();
    let left = [sighting("b", 1, 0, 3), sighting("a", 2, 0, 2)];
    assert_eq!(store.sightings(at(0), 9).await.unwrap(), left);
}

/// Old sightings, and more than the limit, are forgotten.
pub async fn sightings_are_pruned(backend: &impl Backend) {
    let store = backend.open().await;
    let seen: Vec<_> = (1..=9).map(|n| sighting("a", n, 0, n)).collect();
    note(&*store, &seen).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.prune_sightings(at(3), 100).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.sightings(at(0), 99).await.unwrap().len(), 7);
    let mut transaction = store.begin().await.unwrap();
    transaction.prune_sightings(at(3), 2).await.unwrap();
    transaction.commit().await.unwrap();
    let runs: Vec<_> = store.sightings(at(0), 99).await.unwrap();
    assert_eq!(runs, [sighting("a", 9, 0, 9), sighting("a", 8, 0, 8)]);
}

/// A report with the number `clock`: VM 1 has begun `begun` calls.
fn report(run: u64, clock: u64, quiescent: bool, begun: u64, records: u64) -> AuditBatch {
    let vm = VmDelivery { id: Incarnation(1), begun, acknowledged: 0, at: at(clock) };
    let progress = DeliveryReport { clock, at: at(clock), quiescent, vms: vec![vm] };
    let items = (0..records).map(|n| AuditItem::Call(record(n, START + n, None))).collect();
    AuditBatch { source: source(run, 1), delivery: Some(progress), items }
}

async fn lose(store: &dyn Store, lost: &OpenGateway) -> Option<u64> {
    let mut transaction = store.begin_log().await.unwrap();
    let missing = transaction.lose_gateway(lost, at(60)).await.unwrap();
    transaction.commit().await.unwrap();
    missing
}

/// Gateways that may have undelivered records are open; quiescent ones are not.
pub async fn gateways_are_open_until_they_hold_nothing(backend: &impl Backend) {
    let store = backend.open().await;
    ingest_batch(&*store, report(1, 1, false, 5, 2)).await;
    ingest_batch(&*store, report(2, 1, true, 2, 2)).await;
    let open = store.open_gateways(9).await.unwrap();
    assert_eq!(open, [OpenGateway { id: gateway("edge", 1), heard_at: at(0) }]);
    assert_eq!(store.open_gateways(0).await.unwrap(), []);
    assert_eq!(store.gateway_reports().await.unwrap(), 2);
    ingest_batch(&*store, report(1, 2, true, 5, 5)).await;
    assert_eq!(store.open_gateways(9).await.unwrap(), []);
}

/// A lost gateway leaves a gap for the calls that it had begun but not delivered.
pub async fn lost_gateway_leaves_a_gap(backend: &impl Backend) {
    let store = backend.open().await;
    ingest_batch(&*store, report(1, 1, false, 5, 2)).await;
    let open = store.open_gateways(9).await.unwrap().remove(0);
    assert_eq!(lose(&*store, &open).await, Some(3));
    assert_eq!(store.open_gateways(9).await.unwrap(), []);
    let gaps = store.audit_gaps(None, 9).await.unwrap();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].missing, gaps[0].cause, gaps[0].is_least), (3, GapCause::GatewayLost, true));
    assert_eq!((gaps[0].gateway.as_str(), gaps[0].vm.as_deref()), ("edge", None));
    assert_eq!(gaps[0].to, at(61), "by the gateway's clock");
    assert_eq!(lose(&*store, &open).await, None, "it is lost once");
}

/// A gateway that has reported since is not lost.
pub async fn gateway_that_reports_is_not_lost(backend: &impl Backend) {
    let store = backend.open().await;
    ingest_batch(&*store, report(1, 1, false, 5, 2)).await;
    let open = store.open_gateways(9).await.unwrap().remove(0);
    let stale = OpenGateway { heard_at: at(1), ..open };
    assert_eq!(lose(&*store, &stale).await, None);
    let unknown = OpenGateway { id: gateway("other", 1), heard_at: at(0) };
    assert_eq!(lose(&*store, &unknown).await, None);
    assert_eq!(store.audit_gaps(None, 9).await.unwrap(), []);
}

/// A lost gateway that reports again withdraws its gap.
pub async fn returning_gateway_withdraws_its_gap(backend: &impl Backend) {
    let store = backend.open().await;
    ingest_batch(&*store, report(1, 1, false, 5, 2)).await;
    let open = store.open_gateways(9).await.unwrap().remove(0);
    lose(&*store, &open).await;
    let gap = store.audit_gaps(None, 9).await.unwrap().remove(0);
    let ingested = ingest_batch(&*store, report(1, 2, false, 5, 5)).await;
    assert_eq!(ingested, Ingested { missing: 0, withdrawn: Some(gap.id) });
    assert_eq!(store.audit_gaps(None, 9).await.unwrap(), []);
    assert_eq!(store.gap_totals().await.unwrap(), [(GapCause::GatewayLost, 1, 3)], "totals only grow");
    let notices = store.gap_notices_after(gap.id, 9).await.unwrap();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].withdraws, Some(gap.id));
    assert_eq!(store.open_gateways(9).await.unwrap().len(), 1, "and is open again");
}

/// Of two reports the one with the higher number counts, whatever their order.
pub async fn late_report_does_not_replace_a_later_one(backend: &impl Backend) {
    let store = backend.open().await;
    ingest_batch(&*store, report(1, 2, true, 5, 5)).await;
    ingest_batch(&*store, report(1, 1, false, 9, 0)).await;
    assert_eq!(store.open_gateways(9).await.unwrap(), []);
}

/// Streams without recent calls are listed by run and forgotten.
pub async fn quiet_streams_are_forgotten(backend: &impl Backend) {
    let store = backend.open().await;
    for (run, time) in [(1, 0), (2, 100)] {
        let items = vec![AuditItem::Call(record(0, START + time, None))];
        ingest_batch(&*store, batch(source(run, 1), items)).await;
    }
    assert_eq!(store.quiet_streams(at(0)).await.unwrap(), []);
    assert_eq!(store.quiet_streams(at(100)).await.unwrap(), [gateway("edge", 1)]);
    let both = [gateway("edge", 1), gateway("edge", 2)];
    store.forget_streams(&both, at(100)).await.unwrap();
    assert_eq!(store.quiet_streams(at(1_000)).await.unwrap(), [gateway("edge", 2)]);
    // Records that are delivered again now count again.
    let items = vec![AuditItem::Call(record(0, START, None))];
    ingest_batch(&*store, batch(source(1, 1), items)).await;
    assert_eq!(store.record_total().await.unwrap(), 3);
}
