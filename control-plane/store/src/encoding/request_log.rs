//! Calls, gaps and payloads of the request log.

use omniflow_domain::audit::{AggregatedCalls, AuditEntry, AuditGap, CallInProgress, GapCause, RecordedCall};
use omniflow_domain::key_use::CallGroup;
use omniflow_domain::payload::{SealedDataKey, SealedPayload};
use omniflow_policy::audit::{AuditKey, Interruption};
use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use super::{Columns, digest, parsed};
use crate::error::{Result, StoreError};
use crate::request_log::AuditedUser;

/// A record. Columns: id, time, gateway, id, name, version and environment of the key, method, endpoint, path, status, reason,
/// latency, address, request id, bytes of the request and the response, argument hash and whether it is partial, number and
/// first time of aggregated calls, gRPC status, interruption, whether it has a payload.
pub fn entry<B>(row: &impl Columns<B>) -> Result<AuditEntry> {
    let hash: &[u8] = row.column(17)?;
    Ok(AuditEntry {
        id: row.column(0)?,
        time: row.column(1)?,
        gateway: row.column(2)?,
        key: key(row)?,
        method: row.column(7)?,
        endpoint: row.column(8)?,
        path: row.column(9)?,
        status: row.column(10)?,
        outcome: outcome(row.column(11)?)?,
        latency_us: row.column(12)?,
        source_ip: row.column(13)?,
        request_id: row.column(14)?,
        request_bytes: row.column(15)?,
        response_bytes: row.column(16)?,
        argument_hash: if hash.is_empty() { None } else { Some(digest(hash)?) },
        argument_hash_partial: row.column(18)?,
        aggregated: aggregated(row)?,
        grpc_status: row.column(21)?,
        interruption: row.column::<Option<&str>>(22)?.map(interruption).transpose()?,
        has_payload: row.column(23)?,
    })
}

/// A key in the columns 3 to 6.
fn key<B>(row: &impl Columns<B>) -> Result<Option<AuditKey>> {
    let Some(id) = row.column(3)? else { return Ok(None) };
    Ok(Some(AuditKey {
        id,
        name: row.column(4)?,
        version: row.column(5)?,
        environment: parsed(row.column(6)?, "an environment")?,
    }))
}

fn aggregated<B>(row: &impl Columns<B>) -> Result<Option<AggregatedCalls>> {
    let Some(calls) = row.column(19)? else { return Ok(None) };
    Ok(Some(AggregatedCalls { calls, first_time: row.column(20)? }))
}

fn outcome(reason: &str) -> Result<Outcome> {
    Outcome::from_reason(reason).ok_or(StoreError::Corrupt("a reason"))
}

fn interruption(name: &str) -> Result<Interruption> {
    Interruption::from_name(name).ok_or(StoreError::Corrupt("an interruption"))
}

/// A record for a replay. Columns: id, time, id and version of the key, method, endpoint, path, reason, calls.
pub fn recorded_call<B>(row: &impl Columns<B>) -> Result<RecordedCall> {
    Ok(RecordedCall {
        id: row.column(0)?,
        time: row.column(1)?,
        key_id: row.column(2)?,
        version: row.column::<Option<u16>>(3)?.unwrap_or_default(),
        method: row.column(4)?,
        endpoint: row.column(5)?,
        path: row.column(6)?,
        outcome: outcome(row.column(7)?)?,
        calls: row.column(8)?,
    })
}

/// A call that has not ended. Columns: id, time, gateway, id, name, version and environment of the key, method, endpoint, path,
/// status, address, request id, how it was lost.
pub fn call_in_progress<B>(row: &impl Columns<B>) -> Result<CallInProgress> {
    Ok(CallInProgress {
        id: row.column(0)?,
        time: row.column(1)?,
        gateway: row.column(2)?,
        key: key(row)?,
        method: row.column(7)?,
        endpoint: row.column(8)?,
        path: row.column(9)?,
        status: row.column(10)?,
        source_ip: row.column(11)?,
        request_id: row.column(12)?,
        is_lost: row.column::<Option<&str>>(13)?.is_some(),
    })
}

/// The origin and destination of a call. Columns: time, id and name of the key, endpoint, address, calls.
pub fn user<B>(row: &impl Columns<B>) -> Result<AuditedUser> {
    Ok(AuditedUser {
        time: row.column(0)?,
        key: row.column::<Option<Uuid>>(1)?.zip(row.column(2)?),
        endpoint: row.column(3)?,
        address: row.column(4)?,
        calls: row.column(5)?,
    })
}

/// Calls of a key. Columns: address, method, endpoint, reason, calls, times of the first and the last one.
pub fn call_group<B>(row: &impl Columns<B>) -> Result<CallGroup> {
    Ok(CallGroup {
        address: row.column(0)?,
        method: row.column(1)?,
        endpoint: row.column(2)?,
        outcome: outcome(row.column(3)?)?,
        calls: row.column(4)?,
        first: row.column(5)?,
        last: row.column(6)?,
    })
}

/// The last allowed call of a key version. Columns: key, version, time.
pub fn last_use<B>(row: &impl Columns<B>) -> Result<((Uuid, u16), UnixMillis)> {
    Ok(((row.column(0)?, row.column(1)?), row.column(2)?))
}

/// A gap. Columns: id, gateway, incarnation, VM, from, to, missing calls, cause, whether the number is a lower bound.
pub fn gap<B>(row: &impl Columns<B>) -> Result<AuditGap> {
    let stated = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(AuditGap {
        id: row.column(0)?,
        gateway: row.column(1)?,
        incarnation: stated(row.column(2)?),
        vm: stated(row.column(3)?),
        from: row.column(4)?,
        to: row.column(5)?,
        missing: row.column(6)?,
        cause: parsed(row.column(7)?, "the cause of a gap")?,
        is_least: row.column(8)?,
    })
}

/// All gaps of a cause. Columns: cause, gaps, calls.
pub fn gap_total<B>(row: &impl Columns<B>) -> Result<(GapCause, u64, u64)> {
    Ok((parsed(row.column(0)?, "the cause of a gap")?, row.column(1)?, row.column(2)?))
}

/// The encrypted arguments of a call. Columns: data key, ciphertext.
pub fn payload<B>(row: &impl Columns<B>) -> Result<SealedPayload> {
    Ok(SealedPayload { data_key: row.column(0)?, sealed: row.column(1)? })
}

/// A data key. Columns: id, wrapping key, ciphertext.
pub fn data_key<B>(row: &impl Columns<B>) -> Result<SealedDataKey> {
    Ok(SealedDataKey { id: row.column(0)?, wrapping_key: row.column(1)?, sealed: row.column(2)? })
}
