//! Calls, as stored in the audit log.

use std::net::IpAddr;
use std::str::FromStr;

use omniflow_policy::audit::{AuditKey, Interruption, ReportedGapCause, TRUNCATED};
use omniflow_policy::denial::Outcome;
use omniflow_policy::digest::Digest;
use omniflow_policy::redaction::REDACTED;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

/// One stored call, or several aggregated calls.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// Its number in the log.
    pub id: i64,
    /// When the call began; for aggregated calls, when the last one began.
    pub time: UnixMillis,
    /// The gateway that recorded it.
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
    /// Why the response was incomplete, if it was.
    pub interruption: Option<Interruption>,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// Time from the request headers to the end of the stream, in microseconds.
    pub latency_us: u64,
    /// Client address, as determined by the gateway.
    pub source_ip: Option<IpAddr>,
    /// The gateway's request ID.
    pub request_id: String,
    /// Number of bytes of the request body that passed through.
    pub request_bytes: u64,
    /// Number of bytes of the response body.
    pub response_bytes: u64,
    /// SHA-256 over the query string, a line feed and the body; `None` for aggregated calls.
    pub argument_hash: Option<Digest>,
    /// Whether the hash covers only the beginning of the body.
    pub argument_hash_partial: bool,
    /// Whether the arguments themselves are stored.
    pub has_payload: bool,
    /// Present for aggregated calls. Method, path and request ID are empty then.
    pub aggregated: Option<AggregatedCalls>,
}

/// The calls that were aggregated into one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregatedCalls {
    /// Number of calls, at least one.
    pub calls: u64,
    /// When the first call began.
    pub first_time: UnixMillis,
}

/// A call that has not ended, as far as the log shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallInProgress {
    /// Its number in this log, which is not that of its record.
    pub id: i64,
    /// When it began.
    pub time: UnixMillis,
    /// The gateway that reported it.
    pub gateway: String,
    /// The key.
    pub key: Option<AuditKey>,
    /// The method.
    pub method: String,
    /// The template of the route.
    pub endpoint: Option<String>,
    /// The path, without the query string.
    pub path: String,
    /// Status of the response; 0 if there was none when the call was reported.
    pub status: u16,
    /// Client address as the gateway determined it.
    pub source_ip: Option<IpAddr>,
    /// The gateway's request ID.
    pub request_id: String,
    /// Whether the gateway can no longer report the end of the call, because it or its worker is gone.
    pub is_lost: bool,
}

/// The part of a call on which a policy decides.
#[derive(Clone, Debug)]
pub struct RecordedCall {
    /// Its number in the log.
    pub id: i64,
    /// When the call began.
    pub time: UnixMillis,
    /// The key, if the client sent one that exists.
    pub key_id: Option<Uuid>,
    /// The version of the key; 0 without a key.
    pub version: u16,
    /// The method.
    pub method: String,
    /// The template of the route.
    pub endpoint: Option<String>,
    /// The path, without the query string.
    pub path: String,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// Number of calls: 1, or the number of aggregated calls.
    pub calls: u64,
}

/// Whether a call was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The call was allowed.
    Allowed,
    /// The call was refused.
    Denied,
}

/// The error for a text that is not a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a decision must be \"allowed\" or \"denied\"")]
pub struct InvalidDecision;

/// Records that a gateway made and that never arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditGap {
    /// Its number in the log.
    pub id: i64,
    /// The gateway.
    pub gateway: String,
    /// The run of the gateway's process, 16 hexadecimal digits; `None` for purged records, which may be of several runs.
    pub incarnation: Option<String>,
    /// The run of the VM, 16 hexadecimal digits; `None` if the gap concerns the whole gateway.
    pub vm: Option<String>,
    /// When the first call began, or the time of the last record before the gap; `None` if there is none.
    pub from: Option<UnixMillis>,
    /// When the last call began, or the time of the first record after the gap or of the VM's last heartbeat.
    pub to: UnixMillis,
    /// Number of calls without a record.
    pub missing: u64,
    /// Whether this number is a lower bound.
    pub is_least: bool,
    /// The cause.
    pub cause: GapCause,
}

/// Why records never arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// The buffer of the gateway's VM was full.
    BufferFull,
    /// The VM ended, and its buffer was lost.
    VmLost,
    /// The gateway's process ended, and all its buffers were lost.
    GatewayLost,
    /// The cause is unknown.
    Unknown,
    /// The log reached its maximum size, and the records of these calls without a key were purged.
    PurgedWithoutKey,
    /// The same of refused calls with a key.
    PurgedRefused,
    /// The same of allowed calls with a key.
    PurgedAllowed,
}

/// The error for a text that is not a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cause of a gap")]
pub struct InvalidCause;

// === impl RecordedCall ===

impl RecordedCall {
    /// Whether the path is what the client sent, apart from redacted segments: not that of aggregated calls, not truncated, without a
    /// segment of which a part was redacted, and UTF-8.
    pub fn is_path_whole(&self) -> bool {
        !self.path.is_empty()
            && !self.path.ends_with(TRUNCATED)
            && !self.path.split('/').any(|segment| segment != REDACTED && segment.contains(REDACTED))
            && !self.path.contains(char::REPLACEMENT_CHARACTER)
    }

    /// Whether segments of the path were redacted.
    pub fn has_redacted_segments(&self) -> bool {
        self.path.split('/').any(|segment| segment == REDACTED)
    }
}

// === impl Decision ===

impl Decision {
    /// Both decisions.
    pub const ALL: [Self; 2] = [Self::Allowed, Self::Denied];

    /// `allowed` or `denied`, as returned by [`Outcome::decision`].
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
    pub const ALL: [Self; 7] = [
        Self::BufferFull,
        Self::VmLost,
        Self::GatewayLost,
        Self::Unknown,
        Self::PurgedWithoutKey,
        Self::PurgedRefused,
        Self::PurgedAllowed,
    ];

    /// Whether the records arrived, and were purged early.
    pub const fn is_purge(self) -> bool {
        matches!(self, Self::PurgedWithoutKey | Self::PurgedRefused | Self::PurgedAllowed)
    }

    /// The cause, as written in the API and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BufferFull => "buffer_full",
            Self::VmLost => "vm_lost",
            Self::GatewayLost => "gateway_lost",
            Self::Unknown => "unknown",
            Self::PurgedWithoutKey => "purged_without_key",
            Self::PurgedRefused => "purged_refused",
            Self::PurgedAllowed => "purged_allowed",
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
