//! Searches: every combination of conditions finds what it should, in one piece and step by step.

use std::time::Duration;

use omniflow_domain::audit::{AuditEntry, Decision};
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key::KeyReference;
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;
use uuid::Uuid;

use super::Backend;
use super::fixtures::*;
use crate::Store;

/// The most calls of a page.
const PAGE: usize = 50;

/// 6,000 calls, three a millisecond, of two keys; each 2,500th was a `PUT` and refused.
async fn fill(store: &dyn Store) {
    for first in (0..6_000).step_by(1_000) {
        let records = (first..first + 1_000).map(|n| {
            let key = Uuid::from_u128(1 + u128::from(n % 2));
            let mut record = record(n, START + n / 3, Some((key, "ci")));
            if n % 2_500 == 0 {
                record.method = "PUT".to_owned();
                record.outcome = Outcome::Denied(Denial::InsufficientScope);
                record.status = 403;
                record.source_ip = Some("198.51.100.9".parse().unwrap());
                record.grpc_status = Some(7);
            }
            record
        });
        ingest(store, records.collect()).await;
    }
}

/// Whether a filter selects a call.
fn selects(filter: &AuditFilter, entry: &AuditEntry) -> bool {
    let key = filter.key.as_ref().is_none_or(|reference| {
        entry.key.as_ref().is_some_and(|key| match reference {
            KeyReference::Id(id) => key.id == *id,
            KeyReference::Name(name) => key.name == *name,
        })
    });
    let network = filter.network.is_none_or(|net| entry.source_ip.is_some_and(|ip| net.contains(&ip)));
    let grpc = filter.grpc_status.as_ref();
    key && network
        && grpc.is_none_or(|range| entry.grpc_status.is_some_and(|status| range.contains(&status)))
        && filter.status.as_ref().is_none_or(|range| range.contains(&entry.status))
        && filter.method.as_ref().is_none_or(|method| entry.method == *method)
        && filter.endpoint.as_ref().is_none_or(|endpoint| entry.endpoint.as_ref() == Some(endpoint))
        && filter.decision.is_none_or(|decision| entry.outcome.decision() == decision.as_str())
        && filter.reason.is_none_or(|reason| entry.outcome == reason)
        && filter.from.is_none_or(|from| entry.time >= from)
        && filter.to.is_none_or(|to| entry.time < to)
}

fn filters() -> Vec<AuditFilter> {
    let all = AuditFilter::default;
    let key = |n| Some(KeyReference::Id(Uuid::from_u128(n)));
    let name = || Some(KeyReference::Name("ci".to_owned()));
    let network = |text: &str| Some(text.parse().unwrap());
    let put = || Some("PUT".to_owned());
    let contacts = || Some("/api/v1/contacts".to_owned());
    let reason = Some(Outcome::Denied(Denial::InsufficientScope));
    vec![
        all(),
        AuditFilter { method: put(), ..all() },
        AuditFilter { decision: Some(Decision::Denied), ..all() },
        AuditFilter { key: key(1), method: put(), ..all() },
        AuditFilter { key: key(2), method: put(), ..all() },
        AuditFilter { key: name(), status: Some(403..=403), ..all() },
        AuditFilter { reason, ..all() },
        AuditFilter { reason, endpoint: contacts(), ..all() },
        AuditFilter { reason: Some(Outcome::Allowed), method: put(), ..all() },
        AuditFilter { endpoint: contacts(), method: put(), ..all() },
        AuditFilter { status: Some(403..=403), method: put(), ..all() },
        AuditFilter { grpc_status: Some(1..=u32::MAX), ..all() },
        AuditFilter { grpc_status: Some(7..=7), key: key(1), ..all() },
        AuditFilter { grpc_status: Some(8..=8), ..all() },
        AuditFilter { status: Some(400..=499), to: Some(UnixMillis(START + 900)), ..all() },
        AuditFilter { network: network("198.51.100.0/24"), ..all() },
        AuditFilter { network: network("198.51.100.9/32"), method: put(), ..all() },
        AuditFilter { network: network("203.0.0.0/8"), method: put(), ..all() },
        AuditFilter { network: network("203.0.113.0/24"), method: put(), ..all() },
        AuditFilter { network: network("203.0.113.0/24"), endpoint: contacts(), ..all() },
        AuditFilter { network: network("203.0.113.7/32"), endpoint: contacts(), ..all() },
        AuditFilter { network: network("198.51.100.9/32"), reason, ..all() },
        AuditFilter { network: network("198.51.0.0/15"), reason, ..all() },
        AuditFilter { key: key(1), network: network("198.51.100.0/24"), ..all() },
        AuditFilter { method: Some("DELETE".to_owned()), ..all() },
        AuditFilter { method: put(), from: Some(UnixMillis(START + 800)), ..all() },
    ]
}

async fn found(
    store: &dyn Store,
    filter: &AuditFilter,
    before: Option<AuditPosition>,
    deadline: Instant,
) -> (Vec<i64>, Option<AuditPosition>) {
    let page = store.search_calls(filter, before, PAGE, deadline).await.unwrap();
    (page.found.iter().map(|entry| entry.id).collect(), page.ended_at)
}

/// A search and a list find the newest matches, whatever the conditions; a search without time finds them step by step.
pub async fn every_match_is_found(backend: &impl Backend) {
    let store = backend.open().await;
    fill(&*store).await;
    let everything = store.audit_entries(&AuditFilter::default(), None, 6_000).await.unwrap();
    assert_eq!(everything.len(), 6_000);
    let far = Instant::now() + Duration::from_secs(600);
    for filter in filters() {
        let matches = everything.iter().filter(|entry| selects(&filter, entry));
        let expected: Vec<i64> = matches.map(|entry| entry.id).take(PAGE).collect();
        let listed = store.audit_entries(&filter, None, PAGE).await.unwrap();
        assert_eq!(listed.iter().map(|entry| entry.id).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(found(&*store, &filter, None, far).await, (expected.clone(), None), "{filter:?}");
        let (mut steps, mut before) = (Vec::new(), None);
        loop {
            let (some, ended_at) = found(&*store, &filter, before, Instant::now()).await;
            steps.extend(some);
            before = ended_at;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(steps, expected, "{filter:?}");
    }
    let users = store.search_users(&AuditFilter::default(), 4_000, far).await.unwrap();
    assert_eq!(users.found.len(), 4_000);
    assert_eq!(users.found[0].key, Some((Uuid::from_u128(2), "ci".to_owned())));
}
