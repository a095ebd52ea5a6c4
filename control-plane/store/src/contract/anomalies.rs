//! Anomalies: sums, history, evaluation, deliveries.

use omniflow_domain::anomaly::{AnomalyKind, Detection, Evidence, Network};
use omniflow_domain::detection::{HOUR_MS, Present, QUIET_MS};
use omniflow_policy::denial::Denial;

use super::Backend;
use super::fixtures::*;
use crate::{ChangedHour, EvaluationCursor, Store};
use omniflow_domain::anomaly::AnomalyFilter;
use omniflow_domain::key::KeyReference;

fn detection(key: u32, kind: AnomalyKind, first: u64, last: u64) -> Detection {
    Detection {
        kind,
        key_id: id(key),
        key_name: format!("key-{key}"),
        first: at(first),
        last: at(last),
        evidence: Evidence {
            observed: 10,
            expected: Some(1.5),
            bound: 5,
            history_days: Some(28),
            networks: Vec::new(),
            status: None,
            version: None,
            reason: None,
        },
    }
}

async fn note(store: &dyn Store, detection: Detection, webhook: Option<u64>) -> Option<i64> {
    let mut transaction = store.begin_log().await.unwrap();
    let found = transaction.record_detection(detection, webhook.map(at)).await.unwrap();
    transaction.commit().await.unwrap();
    found.map(|anomaly| anomaly.id)
}

async fn changed(store: &dyn Store, cursor: &mut EvaluationCursor, limit: usize) -> Vec<ChangedHour> {
    store.changed_hours(cursor, limit).await.unwrap()
}

async fn mark_evaluated(store: &dyn Store, one: &ChangedHour) {
    let mut transaction = store.begin_log().await.unwrap();
    transaction.mark_evaluated(one).await.unwrap();
    transaction.commit().await.unwrap();
}

fn hours(changed: &[ChangedHour]) -> Vec<Present> {
    let hour = |one: &ChangedHour| match one {
        ChangedHour::Hour(present) => Some(present.clone()),
        ChangedHour::Ended(_) => None,
    };
    changed.iter().filter_map(hour).collect()
}

/// A new detection is an anomaly and round-trips with its evidence.
pub async fn detection_becomes_an_anomaly(backend: &impl Backend) {
    let store = backend.open().await;
    let one = detection(1, AnomalyKind::VolumeSpike, 0, HOUR);
    let number = note(&*store, one.clone(), None).await.unwrap();
    let found = store.anomalies(&AnomalyFilter::default(), None, 9).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id, &found[0].detection), (number, &one));
    assert_eq!(store.anomaly_totals().await.unwrap(), [(AnomalyKind::VolumeSpike, 1)]);
}

/// A detection soon after an anomaly extends it; one long after is another anomaly.
pub async fn detection_extends_an_open_anomaly(backend: &impl Backend) {
    let store = backend.open().await;
    let first = note(&*store, detection(1, AnomalyKind::VolumeSpike, 0, HOUR), None).await.unwrap();
    assert_eq!(note(&*store, detection(1, AnomalyKind::VolumeSpike, 2 * HOUR, 3 * HOUR), None).await, None);
    let open = store.anomalies(&AnomalyFilter::default(), None, 9).await.unwrap();
    assert_eq!((open.len(), open[0].id, open[0].detection.last), (1, first, at(3 * HOUR)));
    let late = 3 * HOUR + QUIET_MS + 1;
    assert!(note(&*store, detection(1, AnomalyKind::VolumeSpike, late, late), None).await.is_some());
    // Another kind or another key is a separate anomaly.
    assert!(note(&*store, detection(1, AnomalyKind::ManyPlaces, 0, 1), None).await.is_some());
    assert!(note(&*store, detection(2, AnomalyKind::VolumeSpike, 0, 1), None).await.is_some());
    assert_eq!(store.anomalies(&AnomalyFilter::default(), None, 9).await.unwrap().len(), 4);
}

/// Each condition, and pages.
pub async fn anomalies_are_filtered_and_paged(backend: &impl Backend) {
    let store = backend.open().await;
    note(&*store, detection(1, AnomalyKind::VolumeSpike, 0, 10), None).await;
    note(&*store, detection(2, AnomalyKind::ManyPlaces, 20, 30), None).await;
    note(&*store, detection(3, AnomalyKind::VolumeSpike, 40, 50), None).await;
    let all = AnomalyFilter::default;
    for (filter, expected) in [
        (all(), vec![3, 2, 1]),
        (AnomalyFilter { key: Some(KeyReference::Id(id(2))), ..all() }, vec![2]),
        (AnomalyFilter { key: Some(KeyReference::from("key-3")), ..all() }, vec![3]),
        (AnomalyFilter { kind: Some(AnomalyKind::VolumeSpike), ..all() }, vec![3, 1]),
        (AnomalyFilter { from: Some(at(30)), ..all() }, vec![3, 2]),
        (AnomalyFilter { to: Some(at(20)), ..all() }, vec![1]),
        (AnomalyFilter { from: Some(at(11)), to: Some(at(20)), ..all() }, vec![]),
    ] {
        let found = store.anomalies(&filter, None, 9).await.unwrap();
        let keys: Vec<_> = found.iter().map(|one| (one.detection.key_id.as_u128() >> 64) as u32).collect();
        assert_eq!(keys, expected, "{filter:?}");
    }
    let first = store.anomalies(&all(), None, 2).await.unwrap();
    let second = store.anomalies(&all(), Some(first[1].id), 2).await.unwrap();
    assert_eq!((first.len(), second.len()), (2, 1));
}

/// New calls mark their hour as changed, with sums by status class.
pub async fn calls_are_summed_by_key_and_hour(backend: &impl Backend) {
    let store = backend.open().await;
    let key = Some((id(1), "ci"));
    let mut records: Vec<_> = (0..8).map(|n| record(n, START + n, key)).collect();
    for (record, status) in records.iter_mut().zip([401, 403, 404, 429, 409]) {
        record.status = status;
    }
    records[5].grpc_status = Some(14);
    records[6].grpc_status = Some(0);
    records[7].time = at(HOUR);
    ingest(&*store, records).await;
    let changed = hours(&changed(&*store, &mut EvaluationCursor::default(), 9).await);
    assert_eq!(changed.len(), 2, "calls without a key are in no sum");
    let present = &changed[0];
    assert_eq!((present.key_id, present.key_name.as_str()), (id(1), "ci"));
    assert_eq!((present.counts.hour, present.counts.calls), (START / HOUR_MS, 7));
    assert_eq!((present.counts.errors, present.counts.places), ([1; 6], 1));
    assert_eq!((present.first, present.last), (at(0), at(6)));
    assert_eq!(present.new_networks, [Network::of("203.0.113.0".parse().unwrap())]);
    assert_eq!(changed[1].counts.calls, 1);
}

/// Sums grow with every batch; repeated calls add nothing.
pub async fn sums_grow_with_every_batch(backend: &impl Backend) {
    let store = backend.open().await;
    for count in [2, 2, 5] {
        let records = (0..count).map(|n| record(n, START + n, Some((id(1), "ci")))).collect();
        ingest(&*store, records).await;
    }
    let changed = hours(&changed(&*store, &mut EvaluationCursor::default(), 9).await);
    assert_eq!((changed.len(), changed[0].counts.calls), (1, 5));
}

/// The maximum number of networks in ten minutes of an hour.
pub async fn networks_are_counted_by_ten_minutes(backend: &impl Backend) {
    let store = backend.open().await;
    let records = (0..6).map(|n| {
        let mut record = record(n, START + if n < 4 { 0 } else { 600_000 }, Some((id(1), "ci")));
        record.source_ip = Some(format!("198.51.{}.1", n % 4).parse().unwrap());
        record
    });
    ingest(&*store, records.collect()).await;
    let changed = hours(&changed(&*store, &mut EvaluationCursor::default(), 9).await);
    assert_eq!(changed[0].counts.places, 4);
    assert_eq!(changed[0].new_networks.len(), 4);
}

/// Calls with a version after its expiry or revocation are a detection, and are not part of any other sum.
pub async fn calls_after_an_end_are_summed_apart(backend: &impl Backend) {
    let store = backend.open().await;
    let key = Some((id(1), "ci"));
    let records =
        vec![refused(0, START, key, Denial::KeyRevoked), refused(1, START + 5, key, Denial::KeyRevoked)];
    ingest(&*store, records).await;
    let changed = changed(&*store, &mut EvaluationCursor::default(), 9).await;
    let [ChangedHour::Ended(detection)] = changed.as_slice() else { panic!("{changed:?}") };
    assert_eq!(
        (detection.kind, detection.key_id, detection.first, detection.last),
        (AnomalyKind::UsedAfterEnd, id(1), at(0), at(5))
    );
    assert_eq!((detection.evidence.observed, detection.evidence.version), (2, Some(1)));
    assert_eq!(detection.evidence.reason.as_deref(), Some(Denial::KeyRevoked.code()));
}

/// Evaluated sums are not returned again until calls are added.
pub async fn evaluated_sums_are_done(backend: &impl Backend) {
    let store = backend.open().await;
    let key = Some((id(1), "ci"));
    let ended = refused(1, START, key, Denial::KeyExpired);
    ingest(&*store, vec![record(0, START, key), ended]).await;
    let first = changed(&*store, &mut EvaluationCursor::default(), 9).await;
    assert_eq!(first.len(), 2);
    for one in &first {
        mark_evaluated(&*store, one).await;
    }
    assert!(changed(&*store, &mut EvaluationCursor::default(), 9).await.is_empty());
    ingest(&*store, vec![record(2, START + 1, key), refused(3, START + 1, key, Denial::KeyExpired)]).await;
    assert_eq!(changed(&*store, &mut EvaluationCursor::default(), 9).await.len(), 2);
}

/// An hour to which calls are added during its evaluation remains marked as changed.
pub async fn sums_that_grew_meanwhile_stay_changed(backend: &impl Backend) {
    let store = backend.open().await;
    let key = Some((id(1), "ci"));
    ingest(&*store, vec![record(0, START, key), refused(1, START, key, Denial::KeyExpired)]).await;
    let read = changed(&*store, &mut EvaluationCursor::default(), 9).await;
    ingest(&*store, vec![record(2, START, key), refused(3, START, key, Denial::KeyExpired)]).await;
    for one in &read {
        mark_evaluated(&*store, one).await;
    }
    assert_eq!(changed(&*store, &mut EvaluationCursor::default(), 9).await.len(), 2);
}

/// A pass reads every changed sum once, a few at a time, oldest hours first.
pub async fn cursor_passes_over_changed_sums(backend: &impl Backend) {
    let store = backend.open().await;
    let records = (0..7).map(|n| {
        let key = Some((id(n as u32 % 3 + 1), "ci"));
        match n {
            6 => refused(n, START, key, Denial::KeyRevoked),
            n => record(n, START + (5 - n) * HOUR, key),
        }
    });
    ingest(&*store, records.collect()).await;
    let (mut cursor, mut found, mut ended) = (EvaluationCursor::default(), Vec::new(), 0);
    loop {
        let some = changed(&*store, &mut cursor, 2).await;
        if some.is_empty() {
            break;
        }
        ended += some.iter().filter(|one| matches!(one, ChangedHour::Ended(_))).count();
        found.extend(hours(&some).iter().map(|present| present.counts.hour - START / HOUR_MS));
    }
    assert_eq!((found, ended), (vec![0, 1, 2, 3, 4, 5], 1));
}

/// The history before an hour, and networks by the day they were new.
pub async fn history_ends_before_the_hour(backend: &impl Backend) {
    let store = backend.open().await;
    let key = Some((id(1), "ci"));
    let mut records: Vec<_> = (0..72).map(|n| record(n, START + n * HOUR, key)).collect();
    records[40].source_ip = Some("198.51.1.1".parse().unwrap());
    records[71].source_ip = Some("198.51.2.1".parse().unwrap());
    ingest(&*store, records).await;
    let mut present = hours(&changed(&*store, &mut EvaluationCursor::default(), 99).await).remove(71);
    let history = store.history(&mut present).await.unwrap();
    assert_eq!((history.since, history.hours.len()), (START / HOUR_MS, 71));
    assert!(history.hours.iter().all(|hour| hour.calls == 1));
    assert_eq!((present.new_in_a_day, history.new_networks.as_slice()), (1, [1].as_slice()));
    let mut unknown = Present { key_id: id(9), ..present };
    let history = store.history(&mut unknown).await.unwrap();
    assert_eq!((history.since, history.hours.len()), (unknown.counts.hour, 0));
}

/// New anomalies are queued for the webhook if there is one.
pub async fn new_anomalies_are_queued(backend: &impl Backend) {
    let store = backend.open().await;
    note(&*store, detection(1, AnomalyKind::VolumeSpike, 0, 1), None).await;
    assert_eq!(store.waiting_deliveries().await.unwrap(), 0);
    let second = note(&*store, detection(2, AnomalyKind::VolumeSpike, 0, 1), Some(5)).await.unwrap();
    note(&*store, detection(2, AnomalyKind::VolumeSpike, 1, 2), Some(6)).await;
    assert_eq!(store.waiting_deliveries().await.unwrap(), 1);
    assert!(store.due_deliveries(at(4), 9).await.unwrap().is_empty());
    let due = store.due_deliveries(at(5), 9).await.unwrap();
    assert_eq!((due.len(), due[0].anomaly.id, due[0].since, due[0].attempts), (1, second, at(5), 0));
    assert_eq!(due[0].anomaly.detection.last, at(2), "with what was added since");
}

/// Deliveries are postponed and end.
pub async fn deliveries_are_postponed_and_end(backend: &impl Backend) {
    let store = backend.open().await;
    let first = note(&*store, detection(1, AnomalyKind::VolumeSpike, 0, 1), Some(1)).await.unwrap();
    let second = note(&*store, detection(2, AnomalyKind::VolumeSpike, 0, 1), Some(2)).await.unwrap();
    let due = async |time, limit| {
        let due = store.due_deliveries(at(time), limit).await.unwrap();
        due.iter().map(|one| (one.anomaly.id, one.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(due(9, 1).await, [(first, 0)]);
    let mut transaction = store.begin_log().await.unwrap();
    transaction.put_off_delivery(first, 3, at(100)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((due(99, 9).await, due(100, 9).await), (vec![(second, 0)], vec![(second, 0), (first, 3)]));
    let mut transaction = store.begin_log().await.unwrap();
    transaction.end_delivery(second).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((due(100, 9).await, store.waiting_deliveries().await.unwrap()), (vec![(first, 3)], 1));
}
