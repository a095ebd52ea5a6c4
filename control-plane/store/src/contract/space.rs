//! The space of the request log: its usage by kind of content, and purges when it reaches its maximum size.

use std::collections::HashMap;

use omniflow_domain::audit::GapCause;
use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::log_content::LogContent;
use omniflow_domain::payload::SealedPayload;
use omniflow_policy::audit::{AuditItem, AuditRecord, CallAggregate};
use omniflow_policy::denial::{Denial, Outcome};

use super::Backend;
use super::fixtures::*;
use crate::Store;

const REFUSED: Outcome = Outcome::Denied(Denial::InsufficientScope);

/// Two allowed calls and a refused one of a key, one call without a key, and seven aggregated ones: an hour apart each.
async fn fill(store: &dyn Store) {
    let key = || Some((id(1), "ci"));
    let allowed = |n| record(n, START + n * HOUR, key());
    let refused = AuditRecord { outcome: REFUSED, ..record(2, START + 2 * HOUR, key()) };
    let without_key = AuditRecord {
        outcome: Outcome::Denied(Denial::MissingCredentials),
        path: "/".repeat(1_000),
        ..record(3, START + 3 * HOUR, None)
    };
    let aggregated = CallAggregate {
        sequence: 4,
        key: None,
        source_ip: None,
        outcome: without_key.outcome,
        status: 401,
        calls: 7,
        first_time: at(4 * HOUR),
        last_time: at(4 * HOUR + 9),
    };
    let records = [allowed(0), allowed(1), refused, without_key].map(AuditItem::Call);
    let items = records.into_iter().chain([AuditItem::Aggregated(aggregated)]).collect();
    let payload = SealedPayload { data_key: 1, sealed: vec![1; 500] };
    let mut transaction = store.begin_log().await.unwrap();
    let payloads = HashMap::from([(0, payload.clone()), (1, payload)]);
    transaction.ingest(batch(source(1, 1), items), &payloads, at(0), LATEST).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn usage(store: &dyn Store) -> HashMap<LogContent, u64> {
    store.log_usage().await.unwrap().into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

/// Each kind of content is counted as it arrives, and no longer once it is purged, in either way.
pub async fn usage_follows_the_content(backend: &impl Backend) {
    let store = backend.open().await;
    assert_eq!(usage(&*store).await.len(), 0);
    fill(&*store).await;
    let full = usage(&*store).await;
    assert_eq!(full.len(), 4, "{full:?}");
    assert!(full[&LogContent::Allowed] > full[&LogContent::Refused], "{full:?}");
    assert!(full[&LogContent::WithoutKey] > full[&LogContent::Allowed], "a long path counts: {full:?}");
    assert!((1_000..1_300).contains(&full[&LogContent::Payloads]), "{full:?}");

    assert_eq!(store.purge_content(LogContent::Payloads, 1).await.unwrap(), 1);
    let left = usage(&*store).await;
    assert_eq!(left[&LogContent::Payloads], full[&LogContent::Payloads] / 2);
    assert_eq!(left[&LogContent::Allowed], full[&LogContent::Allowed]);
    // The second, with its payload.
    assert_eq!(store.purge_records(at(2 * HOUR), 9).await.unwrap(), 2);
    assert_eq!(store.purge_records(at(DAY), 9).await.unwrap(), 3);
    assert_eq!(usage(&*store).await.len(), 0);
    assert_eq!(store.audit_gaps(None, 9).await.unwrap().len(), 0, "their retention has ended");
    assert_eq!(store.purge_content(LogContent::Allowed, 9).await.unwrap(), 0);
}

/// Records that are purged for their space are the oldest of their kind, and leave a gap for each hour with all their calls.
pub async fn early_purge_leaves_gaps(backend: &impl Backend) {
    let store = backend.open().await;
    fill(&*store).await;
    fill_again(&*store).await;
    for (content, limit, purged) in [
        (LogContent::WithoutKey, 1, 1),
        (LogContent::WithoutKey, 9, 2),
        (LogContent::Allowed, 1, 1),
        (LogContent::Refused, 9, 1),
    ] {
        assert_eq!(store.purge_content(content, limit).await.unwrap(), purged);
    }
    let gaps = store.audit_gaps(None, 9).await.unwrap();
    let found: Vec<_> = gaps.iter().map(|gap| (gap.cause, gap.from.unwrap(), gap.to, gap.missing)).collect();
    assert_eq!(
        found,
        [
            (GapCause::PurgedRefused, at(2 * HOUR), at(2 * HOUR), 1),
            (GapCause::PurgedAllowed, at(0), at(0), 1),
            (GapCause::PurgedWithoutKey, at(4 * HOUR), at(4 * HOUR + 9), 7),
            // Two purges of one hour.
            (GapCause::PurgedWithoutKey, at(3 * HOUR), at(3 * HOUR + 5), 2),
        ]
    );
    assert!(gaps.iter().all(|gap| gap.incarnation.is_none() && gap.vm.is_none() && gap.gateway == "edge"));
    let left = store.audit_entries(&AuditFilter::default(), None, 9).await.unwrap();
    assert_eq!(left.iter().map(|entry| entry.time).collect::<Vec<_>>(), [at(HOUR)]);
    assert!(left[0].has_payload);
    let mut totals = store.gap_totals().await.unwrap();
    totals.sort_by_key(|(cause, ..)| cause.as_str());
    assert_eq!(
        totals,
        [
            (GapCause::PurgedAllowed, 1, 1),
            (GapCause::PurgedRefused, 1, 1),
            (GapCause::PurgedWithoutKey, 2, 9),
        ]
    );
    // A receiver of the export has these records.
    assert_eq!(store.gap_notices_after(0, 9).await.unwrap().len(), 0);
}

/// One more call without a key in the same hour.
async fn fill_again(store: &dyn Store) {
    let late = AuditRecord {
        outcome: Outcome::Denied(Denial::UnknownKey),
        ..record(11, START + 3 * HOUR + 5, None)
    };
    ingest(store, vec![late]).await;
}
