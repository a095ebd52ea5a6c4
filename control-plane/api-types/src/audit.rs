//! The audit log in JSON.

use std::borrow::Cow;
use std::net::IpAddr;

use omniflow_policy::key::Environment;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use super::time::Time;
use omniflow_domain::audit::{AuditEntry, AuditGap};

/// One call; or, with `folded_calls`, several refusals of callers without a known key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditRecord)]
pub struct AuditEntryJson {
    #[schema(value_type = schema::Number)]
    pub id: String,
    #[schema(value_type = schema::Instant)]
    pub time: Time,
    #[schema(value_type = Option<schema::Identifier>, required = true)]
    pub key_id: Option<Uuid>,
    #[schema(required = true)]
    pub key_name: Option<String>,
    #[schema(required = true)]
    pub version_id: Option<u16>,
    #[schema(value_type = Option<schema::Environment>, required = true)]
    pub environment: Option<Environment>,
    pub method: String,
    #[schema(required = true)]
    pub endpoint: Option<String>,
    pub path: String,
    pub status: u16,
    #[schema(value_type = schema::Decision)]
    pub decision: Cow<'static, str>,
    #[schema(value_type = schema::Reason)]
    pub reason: Cow<'static, str>,
    pub latency_us: u64,
    #[schema(value_type = Option<schema::Address>, required = true)]
    pub source_ip: Option<IpAddr>,
    pub request_id: String,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub gateway: String,
    #[schema(value_type = Option<schema::Sha256>, required = true)]
    pub argument_hash: Option<String>,
    pub argument_hash_partial: bool,
    pub has_payload: bool,
    #[schema(required = true, minimum = 1)]
    pub folded_calls: Option<u64>,
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub first_time: Option<Time>,
}

/// Records that never arrived.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditGap)]
pub struct AuditGapJson {
    #[schema(value_type = schema::Number)]
    pub id: String,
    pub gateway: String,
    #[schema(value_type = schema::Incarnation)]
    pub incarnation: String,
    #[schema(value_type = Option<schema::Incarnation>, required = true)]
    pub vm: Option<String>,
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub from: Option<Time>,
    #[schema(value_type = schema::Instant)]
    pub to: Time,
    pub missing: u64,
    pub at_least: bool,
    #[schema(value_type = schema::GapCause)]
    pub cause: Cow<'static, str>,
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
            decision: entry.outcome.decision().into(),
            reason: entry.outcome.reason().into(),
            latency_us: entry.latency_us,
            source_ip: entry.source_ip,
            request_id: entry.request_id,
            request_bytes: entry.request_bytes,
            response_bytes: entry.response_bytes,
            gateway: entry.gateway,
            argument_hash: entry.argument_hash.map(|hash| hash.to_hex()),
            argument_hash_partial: entry.argument_hash_partial,
            has_payload: entry.has_payload,
            folded_calls: entry.folded.map(|folded| folded.calls),
            first_time: entry.folded.map(|folded| Time(folded.first_time)),
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
            at_least: gap.is_least,
            cause: gap.cause.as_str().into(),
        }
    }
}
