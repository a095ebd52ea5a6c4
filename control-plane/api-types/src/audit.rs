//! The audit log in JSON.

use std::borrow::Cow;
use std::net::IpAddr;

use omniflow_policy::key::Environment;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use super::time::Time;
use omniflow_domain::audit::{AuditEntry, AuditGap, CallInProgress};

/// A call, or several aggregated calls if `aggregated_calls` is not null. Aggregated calls have the same reason and
/// status, and the same key or, without a known key, the same address.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditRecord)]
pub struct AuditEntryJson {
    /// Record number.
    #[schema(value_type = schema::Number)]
    pub id: String,
    /// When the call began. For aggregated calls, when the last one began.
    #[schema(value_type = schema::Instant)]
    pub time: Time,
    /// Identifier of the key; null if the call used no known key.
    #[schema(value_type = Option<schema::Identifier>, required = true)]
    pub key_id: Option<Uuid>,
    /// Name of the key at the time of the call; null if the call used no known key.
    #[schema(required = true)]
    pub key_name: Option<String>,
    /// Version of the key; null if the call used no known key.
    #[schema(required = true)]
    pub version_id: Option<u16>,
    /// Environment of the key; null if the call used no known key.
    #[schema(value_type = Option<schema::Environment>, required = true)]
    pub environment: Option<Environment>,
    /// HTTP method, at most 32 bytes. Empty for aggregated calls.
    pub method: String,
    /// Path template of the route; null if no route matched.
    #[schema(required = true)]
    pub endpoint: Option<String>,
    /// Path without the query string, at most 1,024 bytes; a longer one ends in `…`. Empty for aggregated calls.
    pub path: String,
    /// HTTP status of the response; 0 if the client received none.
    pub status: u16,
    /// Status of a gRPC response, from its trailers or headers; null for other calls, for aggregated calls, and if the response
    /// had none.
    #[schema(required = true)]
    pub grpc_status: Option<u32>,
    /// Why the response was incomplete; null for complete responses and for aggregated calls.
    #[schema(value_type = Option<schema::Interruption>, required = true)]
    pub interruption: Option<Cow<'static, str>>,
    /// Whether the call was allowed or denied.
    #[schema(value_type = schema::Decision)]
    pub decision: Cow<'static, str>,
    /// Reason for the decision.
    #[schema(value_type = schema::Reason)]
    pub reason: Cow<'static, str>,
    /// Time from the request headers to the end of the stream, in microseconds.
    pub latency_us: u64,
    /// Client address, as determined by the gateway; null if unknown, or if aggregated calls came from several
    /// addresses.
    #[schema(value_type = Option<schema::Address>, required = true)]
    pub source_ip: Option<IpAddr>,
    /// Envoy's request ID. Empty for aggregated calls.
    pub request_id: String,
    /// Size of the request body, in bytes.
    pub request_bytes: u64,
    /// Size of the response body, in bytes.
    pub response_bytes: u64,
    /// Name of the gateway.
    pub gateway: String,
    /// SHA-256 of the query string, a line feed and the request body; null for aggregated calls.
    #[schema(value_type = Option<schema::Sha256>, required = true)]
    pub argument_hash: Option<String>,
    /// Whether the hash covers only the beginning of the body.
    pub argument_hash_partial: bool,
    /// Whether the arguments of the call are stored.
    pub has_payload: bool,
    /// Number of calls that this record aggregates; null for a single call.
    #[schema(required = true, minimum = 1)]
    pub aggregated_calls: Option<u64>,
    /// When the first of the aggregated calls began; null for a single call.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub first_time: Option<Time>,
}

/// A call that has not ended, according to the audit log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = CallInProgress)]
pub struct CallInProgressJson {
    /// Number of the call in this list. Its record has a different number.
    #[schema(value_type = schema::Number)]
    pub id: String,
    /// When the call began.
    #[schema(value_type = schema::Instant)]
    pub time: Time,
    /// Identifier of the key; null if the call used no known key.
    #[schema(value_type = Option<schema::Identifier>, required = true)]
    pub key_id: Option<Uuid>,
    /// Name of the key at the time of the call; null if the call used no known key.
    #[schema(required = true)]
    pub key_name: Option<String>,
    /// Version of the key; null if the call used no known key.
    #[schema(required = true)]
    pub version_id: Option<u16>,
    /// Environment of the key; null if the call used no known key.
    #[schema(value_type = Option<schema::Environment>, required = true)]
    pub environment: Option<Environment>,
    /// HTTP method, at most 32 bytes.
    pub method: String,
    /// Path template of the route; null if no route matched.
    #[schema(required = true)]
    pub endpoint: Option<String>,
    /// Path without the query string, at most 1,024 bytes; a longer one ends in `…`.
    pub path: String,
    /// HTTP status of the response; 0 if it had not begun when the gateway reported the call.
    pub status: u16,
    /// Client address that the gateway determined; null if unknown.
    #[schema(value_type = Option<schema::Address>, required = true)]
    pub source_ip: Option<IpAddr>,
    /// Envoy's request ID, as in the record of the call.
    pub request_id: String,
    /// Name of the gateway.
    pub gateway: String,
    /// Whether the gateway or its worker ended and can no longer report the end of the call. The call is then counted in a gap.
    pub lost: bool,
}

/// Records that are missing from the audit log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditGap)]
pub struct AuditGapJson {
    /// Gap number.
    #[schema(value_type = schema::Number)]
    pub id: String,
    /// Name of the gateway.
    pub gateway: String,
    /// ID of the gateway's process, new at each start; null for purged records.
    #[schema(value_type = Option<schema::Incarnation>, required = true)]
    pub incarnation: Option<String>,
    /// ID of the worker's VM; null if the gap concerns the whole gateway, or for purged records.
    #[schema(value_type = Option<schema::Incarnation>, required = true)]
    pub vm: Option<String>,
    /// When the first missing call began, or the time of the last record before the gap; null if there is none.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub from: Option<Time>,
    /// When the last missing call began, or the time of the first record after the gap.
    #[schema(value_type = schema::Instant)]
    pub to: Time,
    /// Number of missing records.
    pub missing: u64,
    /// Whether `missing` is a lower bound.
    pub at_least: bool,
    /// Why the records are missing.
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
            grpc_status: entry.grpc_status,
            interruption: entry.interruption.map(|interruption| interruption.as_str().into()),
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
            aggregated_calls: entry.aggregated.map(|aggregated| aggregated.calls),
            first_time: entry.aggregated.map(|aggregated| Time(aggregated.first_time)),
        }
    }
}

impl From<CallInProgress> for CallInProgressJson {
    fn from(call: CallInProgress) -> Self {
        let key = call.key;
        Self {
            id: call.id.to_string(),
            time: Time(call.time),
            key_id: key.as_ref().map(|key| key.id),
            version_id: key.as_ref().map(|key| key.version),
            environment: key.as_ref().map(|key| key.environment),
            key_name: key.map(|key| key.name),
            method: call.method,
            endpoint: call.endpoint,
            path: call.path,
            status: call.status,
            source_ip: call.source_ip,
            request_id: call.request_id,
            gateway: call.gateway,
            lost: call.is_lost,
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
