//! The audit record of a call, from its decision to its end.

use std::net::IpAddr;
use std::time::Duration;

use omniflow_policy::audit::{
    ArgumentHash, AuditKey, AuditRecord, Interruption, MAX_METHOD, MAX_REQUEST_ID, UnboundedCall, clip,
};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::limit::LimitReport;
use omniflow_policy::path::split_query;
use omniflow_policy::payload::PayloadCapture;
use omniflow_policy::time::{MonotonicNanos, UnixMillis};

use super::decide::{Decision, DenialDetails, UsedCredential};
use super::headers::RequestHeaders;
use super::payload::CapturedPayload;
use super::response;
use crate::clock;
use crate::host;
use crate::vm::{FinishedCall, Vm};

/// The known facts about a decided call.
pub(crate) struct CallRecord {
    time: UnixMillis,
    began: MonotonicNanos,
    method: String,
    path: String,
    request_id: String,
    source: Option<IpAddr>,
    outcome: Outcome,
    endpoint: Option<String>,
    key: Option<AuditKey>,
    credential: Option<UsedCredential>,
    /// Whether the call was charged to the limits of its key.
    is_metered: bool,
    /// Its number among the calls that were reported as in progress.
    reported: Option<u64>,
    /// Whether the call waits to be ended.
    is_ending: bool,
    /// Why the filter ended the call before its response was complete.
    ended_by: Option<Denial>,
    limits: Option<LimitReport>,
    arguments: ArgumentHash,
    payload: Option<CapturedPayload>,
    is_body_complete: bool,
    request_bytes: u64,
    /// 0 until there is a response.
    status: u16,
    is_grpc: bool,
    grpc_status: Option<u32>,
    is_response_complete: bool,
    response_bytes: u64,
}

impl CallRecord {
    pub(super) fn begin(
        vm: &Vm,
        request: &RequestHeaders<'_>,
        decision: Decision,
        source: Option<IpAddr>,
        time: UnixMillis,
        began: MonotonicNanos,
        end_of_stream: bool,
    ) -> Self {
        let query = split_query(request.target()).1;
        let key = decision.key.as_ref().map(|key| key.id);
        let keeps_payload = decision.payload_bytes > 0 && !(query.is_empty() && end_of_stream);
        Self {
            time,
            began,
            method: clip(request.method(), MAX_METHOD),
            path: decision.path,
            request_id: clip(request.id(), MAX_REQUEST_ID),
            source,
            outcome: decision.outcome,
            endpoint: decision.endpoint,
            is_metered: decision.is_metered,
            key: decision.key,
            credential: decision.credential,
            reported: None,
            is_ending: false,
            ended_by: None,
            limits: decision.limits,
            arguments: ArgumentHash::new(query),
            payload: key.filter(|_| keeps_payload).map(|key| {
                let encoding = request.values("content-encoding");
                let capture =
                    PayloadCapture::new(query, request.media_type(), &encoding, decision.payload_bytes);
                CapturedPayload::new(&vm.payload_room, key, capture)
            }),
            is_body_complete: end_of_stream,
            request_bytes: 0,
            status: 0,
            is_grpc: request.is_grpc(),
            grpc_status: None,
            is_response_complete: false,
            response_bytes: 0,
        }
    }

    /// The response of the upstream that Envoy follows instead of passing it on.
    pub(super) fn set_redirect(&mut self, status: u16) {
        self.set_response(status, None, true);
    }

    /// Whether a request for the target of a redirect continues this call.
    pub(super) fn is_continued_by(&self, method: &[u8], outcome: Outcome) -> bool {
        !matches!(outcome, Outcome::Denied(_)) && self.method.as_bytes() == method
    }

    /// Makes this the record of a call that began with another request, which Envoy has redirected.
    pub(super) fn continuing(self, first: Option<Self>) -> Self {
        let Some(first) = first else { return self };
        Self {
            time: first.time,
            began: first.began,
            is_metered: self.is_metered || first.is_metered,
            reported: first.reported,
            ..self
        }
    }

    /// The credential of the call, and the state of its limits, if it was charged to a key.
    pub(super) fn charged(&self) -> Option<(UsedCredential, LimitReport)> {
        self.credential.zip(self.limits).filter(|_| self.is_metered)
    }

    pub(super) fn has_response(&self) -> bool {
        self.status != 0
    }

    /// The state of the key's limits after this call.
    pub(super) fn limits(&self) -> Option<&LimitReport> {
        self.limits.as_ref()
    }

    /// Adds a chunk of the request body. Only in the request body callback.
    pub(super) fn add_request_body(&mut self, size: usize, end_of_stream: bool) {
        self.request_bytes = self.request_bytes.saturating_add(size as u64);
        if size > 0 {
            let body = host::request_body(size);
            self.arguments.update(&body);
            if let Some(payload) = &mut self.payload {
                payload.add(&body);
            }
        }
        self.is_body_complete |= end_of_stream;
    }

    pub(super) fn complete_request_body(&mut self) {
        self.is_body_complete = true;
    }

    pub(super) fn is_allowed(&self) -> bool {
        !matches!(self.outcome, Outcome::Denied(_))
    }

    /// Whether the call was charged to the limits of its key.
    pub(super) fn is_metered(&self) -> bool {
        self.is_metered
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    pub(super) fn set_response(&mut self, status: u16, grpc_status: Option<u32>, end_of_stream: bool) {
        self.status = status;
        self.grpc_status = grpc_status.filter(|_| self.is_grpc);
        self.is_response_complete = end_of_stream;
    }

    pub(super) fn add_response_body(&mut self, size: usize, end_of_stream: bool) {
        self.response_bytes = self.response_bytes.saturating_add(size as u64);
        self.is_response_complete |= end_of_stream;
    }

    /// The end of a response with trailers.
    pub(super) fn complete_response(&mut self, grpc_status: Option<u32>) {
        self.grpc_status = grpc_status.or(self.grpc_status);
        self.is_response_complete = true;
    }

    /// Why the response was incomplete. Read only then, because this property costs more than the rest of the record.
    fn interruption(&self) -> Option<Interruption> {
        if self.ended_by.is_some() {
            return Some(Interruption::KeyNoLongerValid);
        }
        (!self.is_response_complete).then(|| {
            let flags = host::property("response\0flags");
            let flags = flags.and_then(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?)));
            Interruption::from_flags(flags.unwrap_or_default())
        })
    }

    /// Adds the record to the VM's buffer, or aggregates it.
    pub(super) fn finish(self, vm: &Vm) {
        if !self.is_metered && vm.audit.borrow_mut().aggregate(self.unbounded()) {
            return;
        }
        let now = clock::monotonic();
        let is_body_complete = self.is_body_complete;
        let interruption = self.interruption();
        let payload = self.payload.and_then(|payload| payload.finish(is_body_complete));
        let record = AuditRecord {
            sequence: 0,
            time: self.time,
            key: self.key,
            method: self.method,
            endpoint: self.endpoint,
            path: self.path,
            status: self.status,
            grpc_status: self.grpc_status,
            interruption,
            outcome: self.outcome,
            latency_us: micros(now.since(self.began)),
            source_ip: self.source,
            request_id: self.request_id,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            argument_hash: self.arguments.finish(),
            argument_hash_partial: !is_body_complete,
        };
        vm.record(
            FinishedCall { record, payload, is_metered: self.is_metered, reported: self.reported },
            now,
        );
    }

    /// The call, as an unmetered one.
    fn unbounded(&self) -> UnboundedCall<'_> {
        UnboundedCall {
            key: self.key.as_ref(),
            source: self.source,
            outcome: self.outcome,
            status: self.status,
            time: self.time,
        }
    }
}

// === calls in progress ===

impl CallRecord {
    /// The credential, if the client used a key that exists.
    pub(super) fn credential(&mut self) -> Option<&mut UsedCredential> {
        self.credential.as_mut()
    }

    /// Whether the call began `age` ago and was not reported as in progress.
    pub(super) fn is_unreported(&self, age: Duration, now: MonotonicNanos) -> bool {
        self.reported.is_none() && now.since(self.began) >= age
    }

    /// Remembers that the call was reported as in progress.
    pub(super) fn set_reported(&mut self, number: u64) {
        self.reported = Some(number);
    }

    /// The record of the call so far.
    pub(super) fn so_far(&self, now: MonotonicNanos) -> AuditRecord {
        AuditRecord {
            sequence: 0,
            time: self.time,
            key: self.key.clone(),
            method: self.method.clone(),
            endpoint: self.endpoint.clone(),
            path: self.path.clone(),
            status: self.status,
            grpc_status: None,
            interruption: None,
            outcome: self.outcome,
            latency_us: micros(now.since(self.began)),
            source_ip: self.source,
            request_id: self.request_id.clone(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            argument_hash: self.arguments.clone().finish(),
            argument_hash_partial: !self.is_body_complete,
        }
    }

    /// Whether the filter has not ended the call.
    pub(super) fn is_open(&self) -> bool {
        self.ended_by.is_none()
    }

    /// Marks the call as waiting to be ended. Returns `false` if it already does.
    pub(super) fn mark_ending(&mut self) -> bool {
        !std::mem::replace(&mut self.is_ending, true)
    }

    /// Ends the call, once. To be called on behalf of its request. A client that has no response yet gets a rejection; a
    /// response that has begun is cut off.
    pub(super) fn end(&mut self, denial: Denial) {
        if self.ended_by.replace(denial).is_none() {
            match self.status {
                0 => response::refuse(denial, &DenialDetails::default(), self.is_grpc),
                _ => host::reset_stream(),
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
