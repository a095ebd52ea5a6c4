//! A log that spans many days, which a backend may store apart from each other.

use std::collections::{BTreeSet, HashMap};

use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::payload::SealedPayload;
use omniflow_domain::stats::{Dimension, GroupValue};
use omniflow_policy::audit::{AuditItem, AuditRecord, CallAggregate};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::time::UnixMillis;

use super::Backend;
use super::fixtures::*;
use crate::Store;
use crate::ingest::MAX_AGE_MS;

/// Midnight before [`START`], in milliseconds since 1970.
const MIDNIGHT: u64 = START / DAY * DAY;

/// Stores a batch of which every call has a payload.
async fn ingest_with_payloads(store: &dyn Store, records: Vec<AuditRecord>) {
    let payload = |record: &AuditRecord| (record.sequence, SealedPayload { data_key: 1, sealed: vec![7; 9] });
    let payloads: HashMap<_, _> = records.iter().map(payload).collect();
    let items = records.into_iter().map(AuditItem::Call).collect();
    let mut transaction = store.begin_log().await.unwrap();
    transaction.ingest(batch(source(1, 1), items), &payloads, at(0), LATEST).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn pages(store: &dyn Store, limit: usize) -> Vec<i64> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store.audit_entries(&AuditFilter::default(), before, limit).await.unwrap();
        let Some(last) = page.last() else { return found };
        before = Some(AuditPosition { time: last.time, id: last.id });
        found.extend(page.iter().map(|entry| entry.id));
    }
}

/// The clocks of gateways may be wrong: a batch can contain calls of any time. Those of 1970 and 2023 get the time of the arrival.
pub async fn batch_spans_days(backend: &impl Backend) {
    let store = backend.open().await;
    let times =
        [MIDNIGHT, 0, MIDNIGHT - 1, MIDNIGHT + DAY, START, 1_700_000_000_000, MIDNIGHT + DAY - 1, LATEST.0];
    let records = (0..).zip(times).map(|(n, time)| record(n, time, Some((id(1), "ci"))));
    ingest_with_payloads(&*store, records.collect()).await;
    let by_time = [8, 4, 7, 6, 5, 2, 1, 3];
    assert_eq!(pages(&*store, 3).await, by_time);
    let by_number: Vec<_> = store.records_after(0, 99).await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(by_number, (1..=8).collect::<Vec<_>>());
    for id in 1..=8 {
        assert!(store.audit_entry(id).await.unwrap().unwrap().has_payload, "{id}");
        assert!(store.payload(id).await.unwrap().is_some(), "{id}");
    }
    let day = AuditFilter {
        from: Some(UnixMillis(MIDNIGHT)),
        to: Some(UnixMillis(MIDNIGHT + DAY)),
        ..AuditFilter::default()
    };
    let found = store.audit_entries(&day, None, 99).await.unwrap();
    assert_eq!(found.iter().map(|entry| entry.id).collect::<Vec<_>>(), [7, 6, 5, 2, 1]);
}

/// The clock of a gateway may be wrong by years: older calls get the time of the arrival. So no batch makes the log span more days
/// than it can have, and no record is past its retention when it arrives.
pub async fn calls_have_a_greatest_age(backend: &impl Backend) {
    let store = backend.open().await;
    let calls = (0..400).map(|n| AuditItem::Call(record(n, START - n * 5 * DAY, None)));
    let aggregated = AuditItem::Aggregated(CallAggregate {
        sequence: 400,
        last_time: UnixMillis(2),
        first_time: UnixMillis(1),
        calls: 3,
        key: None,
        status: 401,
        outcome: Outcome::Denied(Denial::MissingCredentials),
        source_ip: None,
    });
    ingest_batch(&*store, batch(source(1, 1), calls.chain([aggregated]).collect())).await;
    let stored = store.records_after(0, 999).await.unwrap();
    let times: Vec<_> = stored.iter().map(|entry| entry.time).collect();
    assert_eq!(times.iter().min(), Some(&UnixMillis(START - MAX_AGE_MS)));
    assert_eq!(times[18], UnixMillis(START - 90 * DAY), "an age that is just allowed");
    // The batch arrives at `START`, when the first call began.
    let arrival = UnixMillis(START);
    assert_eq!(times.iter().filter(|time| **time == arrival).count(), 400 - 19 + 2);
    let aggregated = stored.last().and_then(|entry| entry.aggregated.as_ref()).unwrap();
    assert_eq!(aggregated.first_time, arrival);
    let days: BTreeSet<_> = times.iter().map(|time| time.0 / DAY).collect();
    assert_eq!(days.len(), 19);
}

/// Days are counted like the hours in them.
pub async fn statistics_span_days(backend: &impl Backend) {
    let store = backend.open().await;
    let records = (0..40).map(|n| {
        let mut record = record(n, START + n * 5 * HOUR, None);
        record.status = if n % 4 == 0 { 500 } else { 200 };
        record
    });
    ingest(&*store, records.collect()).await;
    let (all, span) = (AuditFilter::default(), (at(0), at(40 * 5 * HOUR)));
    let by_status = store.audit_stats(&all, span, &[Dimension::Status], 1).await.unwrap();
    assert_eq!((by_status.total.calls, by_status.total.server_errors, by_status.other.calls), (40, 10, 10));
    let by_hour = store.audit_stats(&all, span, &[Dimension::Hour], 1_000).await.unwrap();
    assert_eq!(by_hour.groups.len(), 40);
    assert_eq!(by_hour.groups[&vec![GroupValue::Hour(at(35 * 5 * HOUR))]].calls, 1);
    let by_day = store.audit_timeline(&all, span, DAY, None).await.unwrap();
    let days: Vec<_> = by_day.stretches.iter().map(|(start, counts)| (start % DAY, counts.calls)).collect();
    // At 8:00 on the first day, and every five hours from then on.
    assert_eq!(days, [4, 4, 5, 5, 5, 5, 4, 5, 3].map(|calls| (0, calls)));
}

/// Purging removes what began before an instant, whole days and a part of one, and says how much that was.
pub async fn days_are_purged(backend: &impl Backend) {
    let store = backend.open().await;
    // Two a day, at midnight and a millisecond before the next one.
    let time = |n: u64| MIDNIGHT + n.div_ceil(2) * DAY - n % 2;
    ingest_with_payloads(&*store, (0..10).map(|n| record(n, time(n), Some((id(1), "ci")))).collect()).await;
    let purge = async |before| {
        let mut purged = 0;
        loop {
            match store.purge_records(UnixMillis(before), 2).await.unwrap() {
                0 => return purged,
                some => purged += some,
            }
        }
    };
    assert_eq!(purge(MIDNIGHT).await, 0);
    assert_eq!(purge(MIDNIGHT + 2 * DAY + 1).await, 5);
    assert_eq!(pages(&*store, 99).await, [10, 9, 8, 7, 6]);
    assert!(store.payload(5).await.unwrap().is_none() && store.payload(6).await.unwrap().is_some());
    let entries = store.audit_entries(&AuditFilter::default(), None, 99).await.unwrap();
    assert!(entries.iter().all(|entry| entry.has_payload));
    let usage = store.log_usage().await.unwrap();
    // A call of a day that was purged arrives late.
    ingest(&*store, vec![record(10, MIDNIGHT + 5, Some((id(1), "ci")))]).await;
    assert_eq!(pages(&*store, 99).await, [10, 9, 8, 7, 6, 11]);
    assert_eq!(purge(MIDNIGHT + DAY).await, 1);
    assert_eq!(
        store.log_usage().await.unwrap().into_iter().collect::<HashMap<_, _>>(),
        usage.into_iter().collect()
    );
    assert_eq!(purge(u64::MAX).await, 5);
    assert_eq!((store.newest_record().await.unwrap(), store.record_total().await.unwrap()), (0, 11));
    assert!(store.log_usage().await.unwrap().iter().all(|(_, bytes)| *bytes == 0));
}

/// The same of payloads alone.
pub async fn payloads_of_days_are_purged(backend: &impl Backend) {
    let store = backend.open().await;
    ingest_with_payloads(&*store, (0..6).map(|n| record(n, MIDNIGHT + n * DAY / 2, None)).collect()).await;
    let mut purged = 0;
    loop {
        match store.purge_payloads(UnixMillis(MIDNIGHT + DAY + 1), 1).await.unwrap() {
            0 => break,
            some => purged += some,
        }
    }
    assert_eq!(purged, 3);
    let entries = store.audit_entries(&AuditFilter::default(), None, 99).await.unwrap();
    let payloads: Vec<_> = entries.iter().map(|entry| (entry.id, entry.has_payload)).collect();
    assert_eq!(payloads, [(6, true), (5, true), (4, true), (3, false), (2, false), (1, false)]);
    // Another one of such a day arrives late.
    ingest_with_payloads(&*store, vec![record(6, MIDNIGHT + 1, None)]).await;
    assert!(store.payload(7).await.unwrap().is_some());
}

/// The largest groups of a long time are those of the whole, not of a part of it.
pub async fn largest_groups_span_months(backend: &impl Backend) {
    let store = backend.open().await;
    let calls = [(1, 0, 3), (2, 0, 5), (3, 110, 4), (1, 110, 3), (4, 60, 5)];
    let calls =
        calls.iter().flat_map(|(key, day, calls)| (0..*calls).map(move |_| (*key, START + day * DAY)));
    let records = (0..).zip(calls).map(|(n, (key, time))| record(n, time, Some((id(key), "ci"))));
    ingest(&*store, records.collect()).await;
    let (all, span) = (AuditFilter::default(), (at(0), at(120 * DAY)));
    let stats = store.audit_stats(&all, span, &[Dimension::Key], 1).await.unwrap();
    assert_eq!(stats.groups.keys().collect::<Vec<_>>(), [&vec![GroupValue::Key(id(1))]]);
    assert_eq!((stats.groups[&vec![GroupValue::Key(id(1))]].calls, stats.other.calls), (6, 14));
}
