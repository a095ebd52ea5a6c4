//! Filters as conditions.

use omniflow_domain::audit::Decision;
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key::KeyReference;
use omniflow_policy::denial::Outcome;
use omniflow_store::encoding::{address_bytes, to_millis};
use sqlx::{Postgres, QueryBuilder};

use crate::text::storable;

/// Adds the conditions of a filter.
pub(crate) fn apply(query: &mut QueryBuilder<Postgres>, filter: &AuditFilter) {
    match &filter.key {
        Some(KeyReference::Id(id)) => {
            query.push(" AND key_id = ").push_bind(*id);
        }
        Some(KeyReference::Name(name)) => {
            query.push(" AND key_name = ").push_bind(storable(name).into_owned());
        }
        None => {}
    }
    if let Some(network) = filter.network {
        let (first, last) = (address_bytes(network.network()), address_bytes(network.broadcast()));
        if first == last {
            query.push(" AND source_ip = ").push_bind(first);
        } else {
            query.push(" AND source_ip BETWEEN ").push_bind(first).push(" AND ").push_bind(last);
        }
    }
    let texts = [
        ("environment", filter.environment.map(|environment| environment.as_str())),
        ("endpoint", filter.endpoint.as_deref()),
        ("method", filter.method.as_deref()),
        ("decision", filter.decision.map(Decision::as_str)),
        ("reason", filter.reason.map(Outcome::reason)),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            query.push(" AND ").push(column).push(" = ").push_bind(storable(text).into_owned());
        }
    }
    match &filter.status {
        Some(status) if status.start() == status.end() => {
            query.push(" AND status = ").push_bind(i32::from(*status.start()));
        }
        Some(status) => {
            query.push(" AND status BETWEEN ").push_bind(i32::from(*status.start()));
            query.push(" AND ").push_bind(i32::from(*status.end()));
        }
        None => {}
    }
    if let Some(status) = &filter.grpc_status {
        query.push(" AND grpc_status BETWEEN ").push_bind(i64::from(*status.start()));
        query.push(" AND ").push_bind(i64::from(*status.end()));
    }
    if let Some(from) = filter.from {
        query.push(" AND time >= ").push_bind(to_millis(from));
    }
    if let Some(to) = filter.to {
        query.push(" AND time < ").push_bind(to_millis(to));
    }
}

/// Only calls after a position. The first condition selects partitions, the second one rows.
pub(crate) fn apply_place(query: &mut QueryBuilder<Postgres>, before: Option<AuditPosition>) {
    if let Some(AuditPosition { time, id }) = before {
        let time = to_millis(time);
        query.push(" AND time <= ").push_bind(time);
        query.push(" AND (time, id) < (").push_bind(time).push(", ").push_bind(id).push(")");
    }
}
