//! The audit log in JSON.

use std::net::IpAddr;

use omniflow_policy::key::Environment;
use serde::Serialize;
use uuid::Uuid;

use super::time::Time;
use crate::model::audit::{AuditEntry, AuditGap};

/// One call.
#[derive(Debug, Serialize)]
pub(crate) struct AuditEntryJson {
    id: String,
    time: Time,
    key_id: Option<Uuid>,
    key_name: Option<String>,
    version_id: Option<u16>,
    environment: Option<Environment>,
    method: String,
    endpoint: Option<String>,
    path: String,
    status: u16,
    decision: &'static str,
    reason: &'static str,
    latency_us: u64,
    source_ip: Option<IpAddr>,
    request_id: String,
    request_bytes: u64,
    response_bytes: u64,
    gateway: String,
    argument_hash: String,
    argument_hash_partial: bool,
    has_payload: bool,
}

/// Records that never arrived.
#[derive(Debug, Serialize)]
pub(crate) struct AuditGapJson {
    id: String,
    gateway: String,
    incarnation: String,
    vm: String,
    from: Option<Time>,
    to: Time,
    missing: u64,
}

impl From<AuditEntry> for AuditEntryJson {
    fn from(entry: AuditEntry) -> Self {
        let key = entry.key;
        Self {
            id: entry.id.to_string(),
            time: Time(entry.time),
            key_id: key.as_ref().map(|key| key.id),
            version_id: key.as_ref().map(|key| key.version),
            environment: key.as_ref().map(|key| key.environment),
            key_name: key.map(|key| key.name),
            method: entry.method,
            endpoint: entry.endpoint,
            path: entry.path,
            status: entry.status,
            decision: entry.outcome.decision(),
            reason: entry.outcome.reason(),
            latency_us: entry.latency_us,
            source_ip: entry.source_ip,
            request_id: entry.request_id,
            request_bytes: entry.request_bytes,
            response_bytes: entry.response_bytes,
            gateway: entry.gateway,
            argument_hash: entry.argument_hash.to_hex(),
            argument_hash_partial: entry.argument_hash_partial,
            has_payload: false,
        }
    }
}

impl From<AuditGap> for AuditGapJson {
    fn from(gap: AuditGap) -> Self {
        Self {
            id: gap.id.to_string(),
            gateway: gap.gateway,
            incarnation: gap.incarnation,
            vm: gap.vm,
            from: gap.from.map(Time),
            to: Time(gap.to),
            missing: gap.missing,
        }
    }
}
