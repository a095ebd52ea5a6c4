//! The audit record of a call, from its decision to its end.

use std::net::IpAddr;

use omniflow_policy::audit::{ArgumentHash, AuditKey, AuditRecord, clip};
use omniflow_policy::denial::Outcome;
use omniflow_policy::limit::LimitReport;
use omniflow_policy::path::split_query;
use omniflow_policy::payload::PayloadCapture;
use omniflow_policy::time::{MonotonicNanos, UnixMillis};

use super::decide::Decision;
use super::headers::RequestHeaders;
use super::payload::CapturedPayload;
use crate::clock;
use crate::host;
use crate::vm::Vm;

/// What is known of a call that was decided.
pub(super) struct CallRecord {
    time: UnixMillis,
    began: MonotonicNanos,
    method: String,
    path: String,
    request_id: String,
    source: Option<IpAddr>,
    outcome: Outcome,
    endpoint: Option<String>,
    key: Option<AuditKey>,
    limits: Option<LimitReport>,
    arguments: ArgumentHash,
    payload: Option<CapturedPayload>,
    is_body_complete: bool,
    request_bytes: u64,
    /// 0 until there is a response.
    status: u16,
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
        let (path, query) = split_query(request.target());
        let keeps_payload = decision.payload_bytes > 0 && !(query.is_empty() && end_of_stream);
        Self {
            time,
            began,
            method: clip(request.method()),
            path: clip(path),
            request_id: clip(request.id()),
            source,
            outcome: decision.outcome,
            endpoint: decision.endpoint,
            key: decision.key,
            limits: decision.limits,
            arguments: ArgumentHash::new(query),
            payload: keeps_payload.then(|| {
                let encoding = request.values("content-encoding");
                let capture =
                    PayloadCapture::new(query, request.media_type(), &encoding, decision.payload_bytes);
                CapturedPayload::new(&vm.payload_room, capture)
            }),
            is_body_complete: end_of_stream,
            request_bytes: 0,
            status: 0,
            response_bytes: 0,
        }
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

    pub(super) fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    pub(super) fn add_response_body(&mut self, size: usize) {
        self.response_bytes = self.response_bytes.saturating_add(size as u64);
    }

    /// Adds the record to the VM's buffer, or aggregates it.
    pub(super) fn finish(self, vm: &Vm) {
        if self.key.is_none()
            && let Outcome::Denied(reason) = self.outcome
            && vm.audit.borrow_mut().aggregate(self.source, reason, self.time)
        {
            return;
        }
        let now = clock::monotonic();
        let is_body_complete = self.is_body_complete;
        let payload = self.payload.and_then(|payload| payload.finish(is_body_complete));
        let record = AuditRecord {
            sequence: 0,
            time: self.time,
            key: self.key,
            method: self.method,
            endpoint: self.endpoint,
            path: self.path,
            status: self.status,
            outcome: self.outcome,
            latency_us: u64::try_from(now.since(self.began).as_micros()).unwrap_or(u64::MAX),
            source_ip: self.source,
            request_id: self.request_id,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            argument_hash: self.arguments.finish(),
            argument_hash_partial: !is_body_complete,
        };
        vm.record(record, payload, now);
    }
}
