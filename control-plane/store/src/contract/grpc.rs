//! Statuses of gRPC responses.

use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::stats::{Dimension, GroupValue};

use super::Backend;
use super::fixtures::*;

/// Calls are selected and counted by their gRPC status; a failed one is an error although its status is 200.
pub async fn grpc_statuses_are_selected_and_counted(backend: &impl Backend) {
    let store = backend.open().await;
    let mut records: Vec<_> = (0..5).map(|n| record(n, START + n, None)).collect();
    for (record, grpc_status) in records.iter_mut().zip([0, 14, 14, 5]) {
        record.grpc_status = Some(grpc_status);
    }
    ingest(&*store, records).await;
    let all = AuditFilter::default;
    let span = (at(0), at(DAY));
    let stats = store.audit_stats(&all(), span, &[Dimension::GrpcStatus], 9).await.unwrap();
    assert_eq!((stats.total.calls, stats.total.grpc_errors, stats.total.server_errors), (5, 3, 0));
    for (group, expected) in [
        (GroupValue::GrpcStatus(0), (1, 0)),
        (GroupValue::GrpcStatus(14), (2, 2)),
        (GroupValue::GrpcStatus(5), (1, 1)),
        (GroupValue::Nothing, (1, 0)),
    ] {
        let counts = &stats.groups[&vec![group]];
        assert_eq!((counts.calls, counts.grpc_errors), expected);
    }
    let timeline = store.audit_timeline(&all(), span, HOUR, None).await.unwrap();
    assert_eq!(timeline.total.grpc_errors, 3);
    for (range, expected) in [(14..=14, 2), (0..=0, 1), (1..=u32::MAX, 3), (0..=u32::MAX, 4), (7..=7, 0)] {
        let filter = AuditFilter { grpc_status: Some(range), ..all() };
        assert_eq!(store.audit_entries(&filter, None, 9).await.unwrap().len(), expected, "{filter:?}");
    }
}
