//! Calls as the audit log keeps them.

use std::net::IpAddr;

use omniflow_policy::audit::AuditKey;
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;

/// One call, stored.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// Its number in this log.
    pub id: i64,
    /// When the call began.
    pub time: UnixMillis,
    /// The gateway that saw it.
    pub gateway: String,
    /// The key, where the caller presented one that exists.
    pub key: Option<AuditKey>,
    /// The method.
    pub method: String,
    /// The template of the route.
    pub endpoint: Option<String>,
    /// The path, without the query string.
    pub path: String,
    /// The status that the caller got; 0 where it got none.
    pub status: u16,
    /// `allowed` or `denied`.
    pub decision: String,
    /// The stable reason code.
    pub reason: String,
    /// From the first byte of the request to the last of the response, in microseconds.
    pub latency_us: u64,
    /// The caller's address as the gateway knows it.
    pub source_ip: Option<IpAddr>,
    /// The gateway's request id.
    pub request_id: String,
    /// Bytes of the request, headers included.
    pub request_bytes: u64,
    /// Bytes of the response, headers included.
    pub response_bytes: u64,
    /// SHA-256 over the query string, a line feed and the body.
    pub argument_hash: Digest,
    /// Whether the hash covers the beginning of the body only.
    pub argument_hash_partial: bool,
}

/// Records that a gateway made and that never arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditGap {
    /// Its number in this log.
    pub id: i64,
    /// The gateway.
    pub gateway: String,
    /// The run of the gateway's process, 16 hexadecimal digits.
    pub incarnation: String,
    /// The run of the VM, 16 hexadecimal digits.
    pub vm: String,
    /// The time of the last record before the gap; `None` where none came before.
    pub from: Option<UnixMillis>,
    /// The time of the first record after the gap.
    pub to: UnixMillis,
    /// How many records are missing.
    pub missing: u64,
}
