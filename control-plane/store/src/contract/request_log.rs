//! The request log: ingest, lists, gaps, searches, statistics.

use std::collections::HashMap;
use std::time::Duration;

use omniflow_domain::audit::{Decision, GapCause};
use omniflow_domain::payload::SealedPayload;
use omniflow_domain::stats::{Dimension, GroupValue};
use omniflow_policy::audit::{
    AuditItem, AuditKey, AuditRecord, CallAggregate, ReportedGap, ReportedGapCause,
};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::key::Environment;
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;
use uuid::Uuid;

use super::Backend;
use super::fixtures::*;
use crate::{IngestError, Ingested, Store};
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key::KeyReference;

fn all() -> AuditFilter {
    AuditFilter::default()
}

async fn ids(store: &dyn Store, filter: &AuditFilter) -> Vec<i64> {
    let entries = store.audit_entries(filter, None, 1_000).await.unwrap();
    entries.iter().map(|entry| entry.id).collect()
}

fn calls(count: u64) -> Vec<AuditRecord> {
    (0..count).map(|n| record(n, START + n, None)).collect()
}

/// A call round-trips with all of its fields.
pub async fn ingested_call_is_read_back(backend: &impl Backend) {
    let store = backend.open().await;
    let mut one = record(0, START + 5, Some((id(1), "ci")));
    one.argument_hash_partial = true;
    one.source_ip = Some("2001:db8::7".parse().unwrap());
    assert_eq!(ingest(&*store, vec![one.clone()]).await, Ingested { missing: 0, withdrawn: None });
    let entry = store.audit_entry(1).await.unwrap().unwrap();
    assert_eq!((entry.id, entry.time, entry.gateway.as_str()), (1, at(5), "edge"));
    assert_eq!((entry.key, entry.method, entry.endpoint), (one.key, one.method, one.endpoint));
    assert_eq!((entry.path, entry.status, entry.outcome), (one.path, one.status, one.outcome));
    assert_eq!((entry.latency_us, entry.source_ip), (one.latency_us, one.source_ip));
    assert_eq!((entry.request_id, entry.request_bytes, entry.response_bytes), (one.request_id, 120, 340));
    assert_eq!((entry.argument_hash, entry.argument_hash_partial), (Some(one.argument_hash), true));
    assert_eq!((entry.has_payload, entry.aggregated), (false, None));
    assert!(store.audit_entry(2).await.unwrap().is_none());
}

/// Records that a gateway delivers again are stored once.
pub async fn repeated_batch_is_stored_once(backend: &impl Backend) {
    let store = backend.open().await;
    for _ in 0..2 {
        assert_eq!(ingest(&*store, calls(3)).await.missing, 0);
    }
    assert_eq!(ingest(&*store, calls(5)).await.missing, 0);
    assert_eq!(store.record_total().await.unwrap(), 5);
}

/// Items of a batch are stored in the order of their sequence numbers.
pub async fn items_are_sorted_by_sequence(backend: &impl Backend) {
    let store = backend.open().await;
    let mut records = calls(4);
    records.reverse();
    assert_eq!(ingest(&*store, records).await.missing, 0);
    let first = store.audit_entry(1).await.unwrap().unwrap();
    assert_eq!(first.request_id, "request-0");
}

/// Each VM of each run has its own stream.
pub async fn streams_are_independent(backend: &impl Backend) {
    let store = backend.open().await;
    for source in [source(1, 1), source(1, 2), source(2, 1)] {
        let items = vec![AuditItem::Call(record(0, START, None))];
        assert_eq!(ingest_batch(&*store, batch(source, items)).await.missing, 0);
    }
    assert_eq!(store.record_total().await.unwrap(), 3);
}

/// A jump of sequence numbers is a gap of unknown cause.
pub async fn skipped_sequence_numbers_are_a_gap(backend: &impl Backend) {
    let store = backend.open().await;
    let ingested = ingest(&*store, vec![record(0, START, None), record(4, START + 9, None)]).await;
    assert_eq!(ingested.missing, 3);
    let gaps = store.audit_gaps(None, 9).await.unwrap();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].missing, gaps[0].cause, gaps[0].is_least), (3, GapCause::Unknown, false));
    assert_eq!((gaps[0].from, gaps[0].to), (Some(at(0)), at(9)));
    assert_eq!(gaps[0].vm.as_deref(), Some(String::from(source(1, 1).vm).as_str()));
}

/// A gateway may report a gap with its cause; calls that arrived are not missing.
pub async fn reported_gap_is_stored(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, calls(2)).await;
    let lost = ReportedGap {
        sequence: 0,
        calls: 6,
        cause: ReportedGapCause::BufferFull,
        from: Some(at(1)),
        to: at(8),
    };
    let ingested = ingest_batch(&*store, batch(source(1, 1), vec![AuditItem::Gap(lost)])).await;
    assert_eq!(ingested.missing, 4);
    let gap = store.audit_gaps(None, 9).await.unwrap().remove(0);
    assert_eq!((gap.missing, gap.cause, gap.from, gap.to), (4, GapCause::BufferFull, Some(at(1)), at(8)));
    assert_eq!(ingest(&*store, vec![record(6, START + 9, None)]).await.missing, 0);
}

/// More missing calls than a VM can make are refused, and nothing of the batch is stored.
pub async fn leap_is_rejected(backend: &impl Backend) {
    let store = backend.open().await;
    let far = crate::ingest::MAX_MISSING + 1;
    let items = vec![AuditItem::Call(record(0, START, None)), AuditItem::Call(record(far + 1, START, None))];
    let mut transaction = store.begin_log().await.unwrap();
    let refused = transaction.ingest(batch(source(1, 1), items), &HashMap::new(), at(0), LATEST).await;
    let Err(IngestError::Leap { expected: 1, found }) = refused else { panic!("{refused:?}") };
    assert_eq!(found, far + 1);
    drop(transaction);
    assert_eq!(store.record_total().await.unwrap(), 0);
}

/// More gaps than a filter reports are refused.
pub async fn too_many_gaps_are_rejected(backend: &impl Backend) {
    let store = backend.open().await;
    let most = crate::ingest::MAX_GAPS as u64;
    let items = |count| (1..=count).map(|n| AuditItem::Call(record(2 * n, START, None))).collect();
    let mut transaction = store.begin_log().await.unwrap();
    let refused =
        transaction.ingest(batch(source(1, 1), items(most + 1)), &HashMap::new(), at(0), LATEST).await;
    assert!(matches!(refused, Err(IngestError::TooManyGaps)), "{refused:?}");
    drop(transaction);
    assert_eq!(ingest_batch(&*store, batch(source(1, 1), items(most))).await.missing, most + 1);
}

/// Times after the latest plausible one are clamped.
pub async fn future_times_are_clamped(backend: &impl Backend) {
    let store = backend.open().await;
    let items = vec![AuditItem::Call(record(0, START + DAY, Some((id(1), "ci"))))];
    let mut transaction = store.begin_log().await.unwrap();
    transaction.ingest(batch(source(1, 1), items), &HashMap::new(), at(0), at(60)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.audit_entry(1).await.unwrap().unwrap().time, at(60));
    assert_eq!(store.last_used(&[id(1)]).await.unwrap()[&(id(1), 1)], at(60));
}

/// Aggregated calls are one entry that represents several calls, with a key if they have one.
pub async fn aggregated_calls_are_one_entry(backend: &impl Backend) {
    let store = backend.open().await;
    let key = AuditKey { id: id(1), name: "ci".to_owned(), version: 2, environment: Environment::Live };
    let of_key = CallAggregate {
        sequence: 0,
        key: Some(key.clone()),
        source_ip: None,
        outcome: Outcome::Denied(Denial::RateLimited),
        status: 429,
        calls: 5,
        first_time: at(1),
        last_time: at(9),
    };
    let allowed =
        CallAggregate { sequence: 5, outcome: Outcome::Allowed, status: 200, calls: 2, ..of_key.clone() };
    let address = Some("198.51.100.9".parse().unwrap());
    let passed = CallAggregate {
        sequence: 7,
        key: None,
        source_ip: address,
        outcome: Outcome::PassedThrough,
        status: 404,
        calls: 3,
        ..of_key.clone()
    };
    let items = [of_key, allowed, passed].map(AuditItem::Aggregated).to_vec();
    ingest_batch(&*store, batch(source(1, 1), items)).await;
    let entry = store.audit_entry(1).await.unwrap().unwrap();
    let aggregated = entry.aggregated.unwrap();
    assert_eq!((aggregated.calls, aggregated.first_time, entry.time), (5, at(1), at(9)));
    assert_eq!((entry.key, entry.status, entry.source_ip), (Some(key), 429, None));
    assert_eq!((entry.outcome, entry.argument_hash), (Outcome::Denied(Denial::RateLimited), None));
    let entry = store.audit_entry(3).await.unwrap().unwrap();
    assert_eq!((entry.key, entry.status, entry.source_ip), (None, 404, address));
    assert_eq!(entry.outcome, Outcome::PassedThrough);
    let counted = store.audit_stats(&all(), (at(0), at(DAY)), &[Dimension::Reason], 9).await.unwrap();
    assert_eq!(counted.total.calls, 10);
    let of_key = AuditFilter { key: Some(KeyReference::Id(id(1))), ..all() };
    assert_eq!(store.recorded_calls(&of_key, None, 9).await.unwrap()[1].calls, 5);
    assert_eq!(store.last_used(&[id(1)]).await.unwrap()[&(id(1), 2)], at(9), "the allowed ones");
}

/// Payloads are stored with their calls.
pub async fn payload_is_stored_with_its_call(backend: &impl Backend) {
    let store = backend.open().await;
    let key = store.insert_data_key(at(0), b"wrapping", b"sealed").await.unwrap();
    let sealed = SealedPayload { data_key: key, sealed: vec![1, 2, 3] };
    let items = calls(3).into_iter().map(AuditItem::Call).collect();
    let mut transaction = store.begin_log().await.unwrap();
    let payloads = HashMap::from([(1, sealed.clone())]);
    transaction.ingest(batch(source(1, 1), items), &payloads, at(0), LATEST).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.payload(2).await.unwrap(), Some(sealed));
    assert_eq!(store.payload(1).await.unwrap(), None);
    let entries = store.audit_entries(&all(), None, 9).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.has_payload).collect::<Vec<_>>(), [false, true, false]);
}

/// The newest calls come first; pages are complete even if times are equal.
pub async fn calls_are_paged(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, (0..10).map(|n| record(n, START + n / 4, None)).collect()).await;
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store.audit_entries(&all(), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(AuditPosition { time: last.time, id: last.id });
        found.extend(page.iter().map(|entry| entry.id));
    }
    assert_eq!(found, (1..=10).rev().collect::<Vec<_>>());
    assert_eq!(store.recorded_calls(&all(), None, 99).await.unwrap().len(), 10);
}

fn varied() -> Vec<AuditRecord> {
    let mut records: Vec<_> = (0..8).map(|n| record(n, START + n, Some((id(1), "ci")))).collect();
    records[1].key.as_mut().unwrap().environment = Environment::Test;
    records[2].endpoint = Some("/api/v1/tickets/{id}".to_owned());
    records[3].method = "POST".to_owned();
    records[4].status = 503;
    (records[5].status, records[5].outcome) = (403, Outcome::Denied(Denial::InsufficientScope));
    records[6].source_ip = Some("198.51.100.9".parse().unwrap());
    records[7].key = None;
    records
}

/// Each condition, and several at once.
pub async fn calls_are_filtered(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, varied()).await;
    let network = |text: &str| Some(text.parse().unwrap());
    for (filter, expected) in [
        (all(), vec![8, 7, 6, 5, 4, 3, 2, 1]),
        (AuditFilter { key: Some(KeyReference::Id(id(1))), ..all() }, vec![7, 6, 5, 4, 3, 2, 1]),
        (AuditFilter { key: Some(KeyReference::from("ci")), from: Some(at(5)), ..all() }, vec![7, 6]),
        (AuditFilter { key: Some(KeyReference::from("cd")), ..all() }, vec![]),
        (AuditFilter { environment: Some(Environment::Test), ..all() }, vec![2]),
        (AuditFilter { endpoint: Some("/api/v1/tickets/{id}".to_owned()), ..all() }, vec![3]),
        (AuditFilter { method: Some("POST".to_owned()), ..all() }, vec![4]),
        (AuditFilter { status: Some(503..=503), ..all() }, vec![5]),
        (AuditFilter { status: Some(400..=599), ..all() }, vec![6, 5]),
        (AuditFilter { decision: Some(Decision::Denied), ..all() }, vec![6]),
        (AuditFilter { reason: Some(Outcome::Denied(Denial::InsufficientScope)), ..all() }, vec![6]),
        (AuditFilter { network: network("198.51.100.9/32"), ..all() }, vec![7]),
        (AuditFilter { network: network("198.51.100.0/24"), ..all() }, vec![7]),
        (AuditFilter { network: network("198.0.0.0/8"), ..all() }, vec![7]),
        (AuditFilter { network: network("2001:db8::/32"), ..all() }, vec![]),
        (AuditFilter { from: Some(at(2)), to: Some(at(4)), ..all() }, vec![4, 3]),
        (
            AuditFilter {
                method: Some("POST".to_owned()),
                status: Some(200..=200),
                to: Some(at(3)),
                ..all()
            },
            vec![],
        ),
    ] {
        assert_eq!(ids(&*store, &filter).await, expected, "{filter:?}");
        let deadline = Instant::now() + Duration::from_secs(600);
        let page = store.search_calls(&filter, None, 99, deadline).await.unwrap();
        assert_eq!(page.found.iter().map(|entry| entry.id).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(page.ended_at, None);
        let between = store.audit_entries_between(&filter, 2, 6).await.unwrap();
        let mut within: Vec<_> = expected.iter().copied().filter(|id| (3..=6).contains(id)).collect();
        within.reverse();
        assert_eq!(between.iter().map(|entry| entry.id).collect::<Vec<_>>(), within, "{filter:?}");
    }
}

/// Numbers follow the order of commits.
pub async fn numbers_increase_with_commits(backend: &impl Backend) {
    let store = backend.open().await;
    assert_eq!((store.newest_record().await.unwrap(), store.record_total().await.unwrap()), (0, 0));
    ingest(&*store, vec![record(0, START + 100, None)]).await;
    ingest_batch(&*store, batch(source(1, 2), vec![AuditItem::Call(record(0, START, None))])).await;
    assert_eq!(store.newest_record().await.unwrap(), 2);
    assert_eq!(store.audit_entry(2).await.unwrap().unwrap().time, at(0));
}

/// A search without time finds a part, and continues where it ended.
pub async fn search_continues_where_it_ended(backend: &impl Backend) {
    let store = backend.open().await;
    for first in (0..6_000).step_by(1_000) {
        let records = (first..first + 1_000).map(|n| {
            let mut record = record(n, START + n / 3, Some((Uuid::from_u128(1 + u128::from(n % 2)), "ci")));
            if n % 2_500 == 0 {
                record.method = "PUT".to_owned();
            }
            record
        });
        ingest(&*store, records.collect()).await;
    }
    let filter = AuditFilter { method: Some("PUT".to_owned()), ..all() };
    let (mut found, mut before, mut rounds) = (Vec::new(), None, 0);
    loop {
        let page = store.search_calls(&filter, before, 50, Instant::now()).await.unwrap();
        found.extend(page.found.iter().map(|entry| entry.id));
        rounds += 1;
        assert!(rounds < 10_000, "the search does not end");
        before = page.ended_at;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, [5_001, 2_501, 1]);
}

/// The clients of the newest calls.
pub async fn users_of_the_newest_calls_are_found(backend: &impl Backend) {
    let store = backend.open().await;
    ingest(&*store, varied()).await;
    let deadline = Instant::now() + Duration::from_secs(600);
    let page = store.search_users(&all(), 2, deadline).await.unwrap();
    assert_eq!(page.found.len(), 2);
    assert_eq!((page.found[0].time, &page.found[0].key, page.found[0].calls), (at(7), &None, 1));
    assert_eq!(page.found[1].key, Some((id(1), "ci".to_owned())));
    assert_eq!(page.found[1].address, Some("198.51.100.9".parse().unwrap()));
}

/// Calls are counted by interval; without time, the newest first.
pub async fn timeline_counts_by_interval(backend: &impl Backend) {
    const MINUTE: u64 = 60_000;
    let store = backend.open().await;
    let mut records: Vec<_> = (0..90).map(|n| record(n, START + n * MINUTE, None)).collect();
    records[1].status = 404;
    records[89].status = 503;
    ingest(&*store, records).await;
    let span = (at(0), at(90 * MINUTE));
    let count = async |deadline| store.audit_timeline(&all(), span, 30 * MINUTE, deadline).await.unwrap();
    let whole = count(None).await;
    let found: Vec<_> = whole.stretches.iter().map(|(start, tally)| (start - START, tally.calls)).collect();
    assert_eq!(found, [(0, 30), (30 * MINUTE, 30), (60 * MINUTE, 30)]);
    assert_eq!((whole.total.calls, whole.total.client_errors, whole.total.server_errors), (90, 1, 1));
    assert_eq!((whole.total.percentile(99), whole.counted_from), (Some(900), None));
    let newest = count(Some(Instant::now())).await;
    assert!(newest.counted_from.is_some() && (1..90).contains(&newest.total.calls));
    let narrow = (at(1), at(31 * MINUTE));
    let some = store.audit_timeline(&all(), narrow, MINUTE, None).await.unwrap();
    assert_eq!((some.total.calls, some.stretches.len()), (30, 30));
}

/// The counts of an empty log are zero.
pub async fn empty_log_counts_nothing(backend: &impl Backend) {
    let store = backend.open().await;
    let span = (at(0), at(DAY));
    assert_eq!(store.audit_timeline(&all(), span, HOUR, None).await.unwrap().total.calls, 0);
    let stats = store.audit_stats(&all(), span, &[Dimension::Hour], 9).await.unwrap();
    assert_eq!((stats.total.calls, stats.groups.len()), (0, 0));
    assert!(ids(&*store, &all()).await.is_empty());
}

/// Each dimension, with the rest in `other`.
pub async fn statistics_count_in_groups(backend: &impl Backend) {
    let store = backend.open().await;
    let mut records = varied();
    for record in &mut records {
        record.time = UnixMillis(record.time.0 + record.sequence % 2 * HOUR);
    }
    ingest(&*store, records).await;
    let span = (at(0), at(DAY));
    let count = async |by: &[Dimension], most| store.audit_stats(&all(), span, by, most).await.unwrap();
    let by_hour = count(&[Dimension::Hour], 99).await;
    assert_eq!(by_hour.total.calls, 8);
    assert_eq!(by_hour.groups[&vec![GroupValue::Hour(at(0))]].calls, 4);
    let by_key = count(&[Dimension::Key], 99).await;
    assert_eq!(by_key.groups[&vec![GroupValue::Key(id(1))]].calls, 7);
    assert_eq!(by_key.groups[&vec![GroupValue::Nothing]].calls, 1);
    let by_status = count(&[Dimension::Status], 1).await;
    assert_eq!(by_status.groups.len(), 1);
    assert_eq!(by_status.groups[&vec![GroupValue::Status(200)]].calls, 6);
    assert_eq!(
        (by_status.other.calls, by_status.other.client_errors, by_status.other.server_errors),
        (2, 1, 1)
    );
    let by_two = count(&[Dimension::Endpoint, Dimension::Reason], 99).await;
    let group = vec![
        GroupValue::Text("/api/v1/tickets/{id}".to_owned()),
        GroupValue::Text(Outcome::Allowed.reason().to_owned()),
    ];
    assert_eq!(by_two.groups[&group].calls, 1);
    let by_address = count(&[Dimension::Address], 99).await;
    assert_eq!(by_address.groups[&vec![GroupValue::Address("198.51.100.9".parse().unwrap())]].calls, 1);
    let key = AuditFilter { key: Some(KeyReference::Id(id(1))), ..all() };
    let of_key = store.audit_stats(&key, (at(0), at(HOUR)), &[Dimension::Hour], 9).await.unwrap();
    assert_eq!(of_key.total.calls, 4);
}

/// Latencies have three significant digits.
pub async fn latencies_are_rounded_down(backend: &impl Backend) {
    let store = backend.open().await;
    for (n, latency, expected) in
        [(0, 999, 999), (1, 1_239, 1_230), (2, 12_399, 12_300), (3, 987_654_321, 987_000_000)]
    {
        let mut one = record(n, START + n * HOUR, None);
        one.latency_us = latency;
        ingest(&*store, vec![one]).await;
        let span = (at(n * HOUR), at(n * HOUR + 1));
        let stats = store.audit_stats(&all(), span, &[Dimension::Hour], 9).await.unwrap();
        assert_eq!(stats.total.percentile(50), Some(expected));
    }
}

/// The name of a key in its newest call.
pub async fn newest_name_of_a_key_is_found(backend: &impl Backend) {
    let store = backend.open().await;
    let records = vec![
        record(0, START, Some((id(1), "old"))),
        record(1, START + 9, Some((id(1), "new"))),
        record(2, START + 5, Some((id(1), "middle"))),
    ];
    ingest(&*store, records).await;
    assert_eq!(store.audited_key_name(id(1)).await.unwrap().as_deref(), Some("new"));
    assert_eq!(store.audited_key_name(id(2)).await.unwrap(), None);
}

/// The newest calls of one key in groups.
pub async fn calls_of_a_key_are_grouped(backend: &impl Backend) {
    let store = backend.open().await;
    let mut records: Vec<_> = (0..6).map(|n| record(n, START + n, Some((id(1), "ci")))).collect();
    records[1].source_ip = None;
    records[2].endpoint = None;
    records.push(record(6, START, Some((id(2), "other"))));
    ingest(&*store, records).await;
    let groups = store.call_groups(id(1), at(0), 100).await.unwrap();
    let mut found: Vec<_> =
        groups.iter().map(|one| (one.calls, one.address.is_some(), one.endpoint.is_some())).collect();
    found.sort_unstable();
    assert_eq!(found, [(1, false, true), (1, true, false), (4, true, true)]);
    let most = groups.iter().find(|group| group.calls == 4).unwrap();
    assert_eq!((most.first, most.last), (at(0), at(5)));
    let calls = async |from, limit| -> u64 {
        store.call_groups(id(1), at(from), limit).await.unwrap().iter().map(|group| group.calls).sum()
    };
    assert_eq!((calls(4, 100).await, calls(0, 3).await), (2, 3));
}

/// When versions were last allowed, whatever the order of arrival.
pub async fn last_use_is_the_latest_allowed_call(backend: &impl Backend) {
    let store = backend.open().await;
    let key = Some((id(1), "ci"));
    let mut second = record(2, START + 3, key);
    second.key.as_mut().unwrap().version = 2;
    let denied = refused(3, START + 99, key, Denial::InsufficientScope);
    ingest(&*store, vec![record(0, START + 9, key), record(1, START + 5, key), second, denied]).await;
    let used = store.last_used(&[id(1), id(2)]).await.unwrap();
    assert_eq!(used, HashMap::from([((id(1), 1), at(9)), ((id(1), 2), at(3))]));
    ingest(&*store, vec![record(4, START + 7, key)]).await;
    assert_eq!(store.last_used(&[id(1)]).await.unwrap()[&(id(1), 1)], at(9));
    assert!(store.last_used(&[]).await.unwrap().is_empty());
}

/// Gaps, paginated and by time.
pub async fn gaps_are_listed(backend: &impl Backend) {
    let store = backend.open().await;
    let records = (0..4).map(|n| record(2 * n + 1, START + 10 * n, None)).collect();
    ingest(&*store, records).await;
    let gap_ids =
        |gaps: Vec<omniflow_domain::audit::AuditGap>| gaps.iter().map(|gap| gap.id).collect::<Vec<_>>();
    assert_eq!(gap_ids(store.audit_gaps(None, 3).await.unwrap()), [4, 3, 2]);
    assert_eq!(gap_ids(store.audit_gaps(Some(2), 3).await.unwrap()), [1]);
    assert_eq!(gap_ids(store.audit_gaps_between(at(10), at(30), 9).await.unwrap()), [3, 2]);
    assert_eq!(gap_ids(store.audit_gaps_between(at(0), at(99), 1).await.unwrap()), [4]);
    assert_eq!(store.gap_totals().await.unwrap(), [(GapCause::Unknown, 4, 4)]);
}

/// A batch of any size is stored as a whole.
pub async fn large_batches_are_stored(backend: &impl Backend) {
    let store = backend.open().await;
    for (first, count) in [(0, 1), (1, 63), (64, 64), (128, 65), (193, 1_500)] {
        let records = (first..first + count).map(|n| record(n, START + n, Some((id(1), "ci")))).collect();
        assert_eq!(ingest(&*store, records).await.missing, 0);
    }
    assert_eq!(store.record_total().await.unwrap(), 1_693);
    for id in [1, 64, 65, 1_693] {
        let entry = store.audit_entry(id).await.unwrap().unwrap();
        assert_eq!(entry.request_id, format!("request-{}", id - 1));
    }
}
