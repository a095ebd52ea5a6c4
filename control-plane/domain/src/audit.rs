//! Calls as the audit log keeps them.

use std::net::IpAddr;
use std::str::FromStr;

use omniflow_policy::audit::{AuditKey, Interruption, REDACTED, ReportedGapCause, TRUNCATED};
use omniflow_policy::denial::Outcome;
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

/// One call, stored; or aggregated calls.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// Its number in this log.
    pub id: i64,
    /// When the call began; of aggregated ones the last.
    pub time: UnixMillis,
    /// The gateway that saw it.
    pub gateway: String,
    /// The key, if the client sent one that exists.
    pub key: Option<AuditKey>,
    /// The method.
    pub method: String,
    /// The template of the route.
    pub endpoint: Option<String>,
    /// The path, without the query string.
    pub path: String,
    /// Status of the response; 0 if there was none.
    pub status: u16,
    /// Status of a gRPC response.
    pub grpc_status: Option<u32>,
    /// Why the response was not complete, if it was not.
    pub interruption: Option<Interruption>,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// From the head of the request to the end of the stream, in microseconds.
    pub latency_us: u64,
    /// Client address as the gateway determined it.
    pub source_ip: Option<IpAddr>,
    /// The gateway's request id.
    pub request_id: String,
    /// Bytes of the request's body that have passed.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// SHA-256 over the query string, a line feed and the body; `None` for aggregated calls.
    pub argument_hash: Option<Digest>,
    /// Whether the hash covers the beginning of the body only.
    pub argument_hash_partial: bool,
    /// Whether the arguments themselves are kept.
    pub has_payload: bool,
    /// Present where this stands for several calls. Method, path and request id are empty then.
    pub aggregated: Option<AggregatedCalls>,
}

/// How many calls were aggregated into one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregatedCalls {
    /// How many, at least one.
    pub calls: u64,
    /// When the first began.
    pub first_time: UnixMillis,
}

/// Of one call what a policy decides on.
#[derive(Clone, Debug)]
pub struct RecordedCall {
    /// Its number in this log.
    pub id: i64,
    /// When the call began.
    pub time: UnixMillis,
    /// The key, if the client sent one that exists.
    pub key_id: Option<Uuid>,
    /// The version of it; 0 without a key.
    pub version: u16,
    /// The method.
    pub method: String,
    /// The template of the route.
    pub endpoint: Option<String>,
    /// The path, without the query string.
    pub path: String,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// How many calls it stands for: 1, or those that were aggregated.
    pub calls: u64,
}

/// Whether a call was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was.
    Allowed,
    /// It was refused.
    Denied,
}

/// A word that names no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a decision is \"allowed\" or \"denied\"")]
pub struct InvalidDecision;

/// Records that a gateway made and that never arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditGap {
    /// Its number in this log.
    pub id: i64,
    /// The gateway.
    pub gateway: String,
    /// The run of the gateway's process, 16 hexadecimal digits.
    pub incarnation: String,
    /// The run of the VM, 16 hexadecimal digits; `None` where it is the whole gateway's.
    pub vm: Option<String>,
    /// When the first call began, or the time of the last record before the gap; `None` where none came before.
    pub from: Option<UnixMillis>,
    /// When the last call began, or the time of the first record after the gap, or of the VM's last sign of life.
    pub to: UnixMillis,
    /// How many calls have no record.
    pub missing: u64,
    /// Whether there may be more of them.
    pub is_least: bool,
    /// Why.
    pub cause: GapCause,
}

/// Why records never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// The buffer of the gateway's VM was full.
    BufferFull,
    /// The VM has ended, and its buffer with it.
    VmLost,
    /// The gateway's process has ended, and all its buffers with it.
    GatewayLost,
    /// Nobody has said why.
    Unknown,
}

/// A word that names no cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cause is \"buffer_full\", \"vm_lost\", \"gateway_lost\" or \"unknown\"")]
pub struct InvalidCause;

// === impl RecordedCall ===

impl RecordedCall {
    /// Whether the path is what the client sent: not that of aggregated calls, not truncated, without anything that was
    /// redacted or is not UTF-8.
    pub fn is_path_whole(&self) -> bool {
        !self.path.is_empty()
            && !self.path.ends_with(TRUNCATED)
            && !self.path.contains(REDACTED)
            && !self.path.contains(char::REPLACEMENT_CHARACTER)
    }
}

// === impl Decision ===

impl Decision {
    /// Both decisions.
    pub const ALL: [Self; 2] = [Self::Allowed, Self::Denied];

    /// `allowed` or `denied`, as [`Outcome::decision`] says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

impl FromStr for Decision {
    type Err = InvalidDecision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|decision| decision.as_str() == text).ok_or(InvalidDecision)
    }
}

// === impl GapCause ===

impl GapCause {
    /// All causes.
    pub const ALL: [Self; 4] = [Self::BufferFull, Self::VmLost, Self::GatewayLost, Self::Unknown];

    /// The cause as the API and the database write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BufferFull => "buffer_full",
            Self::VmLost => "vm_lost",
            Self::GatewayLost => "gateway_lost",
            Self::Unknown => "unknown",
        }
    }
}

impl From<ReportedGapCause> for GapCause {
    fn from(cause: ReportedGapCause) -> Self {
        match cause {
            ReportedGapCause::BufferFull => Self::BufferFull,
            ReportedGapCause::VmLost => Self::VmLost,
        }
    }
}

impl FromStr for GapCause {
    type Err = InvalidCause;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text).ok_or(InvalidCause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_decision() {
        for outcome in Outcome::all() {
            assert_eq!(outcome.decision().parse().map(Decision::as_str), Ok(outcome.decision()));
        }
    }
}
