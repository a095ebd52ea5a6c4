//! One request: decide, mark, record.

use std::net::IpAddr;
use std::rc::Rc;

use omniflow_policy::address::parse_source_address;
use omniflow_policy::audit::{ArgumentHash, AuditKey, AuditRecord, clip};
use omniflow_policy::authorize::{self, Call, CredentialView, authorize};
use omniflow_policy::credential::{HeaderRole, find_credential, header_role};
use omniflow_policy::limit::{LimitDecision, LimitReport};
use omniflow_policy::outcome::{Denial, Outcome};
use omniflow_policy::path::split_query;
use omniflow_policy::payload::PayloadCapture;
use omniflow_policy::time::{MonotonicNanos, UnixMillis};
use uuid::Uuid;

use crate::clock;
use crate::counters;
use crate::headers::Headers;
use crate::host;
use crate::key_info::KeyInfo;
use crate::payload::Capturing;
use crate::respond::{self, Details};
use crate::vm::Vm;

/// Whether a request or its answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Action {
    Continue = 0,
    Pause = 1,
}

/// One request.
pub(crate) struct Stream {
    vm: Rc<Vm>,
    call: Option<Box<Recorded>>,
}

/// What is known of a call once it was decided on, for its response and its record.
struct Recorded {
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
    payload: Option<Capturing>,
    body_complete: bool,
    request_bytes: u64,
    /// 0 until there is an answer.
    status: u16,
    response_bytes: u64,
}

/// A request's headers, and those of them that are asked for by name: the first of each.
struct Request<'a> {
    headers: &'a Headers,
    method: Option<&'a [u8]>,
    target: Option<&'a [u8]>,
    media_type: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
}

/// A decision with everything that is said and done because of it.
struct Ruling {
    outcome: Outcome,
    endpoint: Option<String>,
    key: Option<AuditKey>,
    scopes: String,
    limits: Option<LimitReport>,
    /// Bytes of the arguments that are kept.
    payload_bytes: usize,
    details: Details,
    /// The answer to a caller that asks about its own key.
    info: Option<KeyInfo>,
}

impl Stream {
    pub(crate) fn new(vm: Rc<Vm>) -> Self {
        Self { vm, call: None }
    }

    /// Steps 1 to 6.
    fn rule(
        &self,
        request: &Request<'_>,
        source: Option<IpAddr>,
        now: UnixMillis,
        monotonic: MonotonicNanos,
    ) -> Ruling {
        let mut store = self.vm.store.borrow_mut();
        let Some((policy, pages)) = store.open(monotonic, self.vm.config.max_snapshot_age) else {
            return Ruling::unidentified(Outcome::Denied(Denial::PolicyUnavailable));
        };
        let call = Call {
            credential: find_credential(request.headers.iter(), policy.key_prefix()),
            request: authorize::Request { method: request.method(), target: request.target(), source, now },
        };
        let mut page_unavailable = false;
        let decision = authorize(policy, &self.vm.config.settings, &call, |digest| {
            pages.find(digest).unwrap_or_else(|_| {
                page_unavailable = true;
                None
            })
        });
        let endpoint = decision.route.map(|route| route.template.to_owned());
        if page_unavailable {
            return Ruling { endpoint, ..Ruling::unidentified(Outcome::Denied(Denial::PolicyUnavailable)) };
        }
        let Some(key) = decision.credential else {
            return Ruling { endpoint, ..Ruling::unidentified(decision.outcome) };
        };
        let mut details = Details::default();
        if decision.outcome == Outcome::Denied(Denial::InsufficientScope) {
            details.required_scope = decision.route.and_then(|route| route.scope).cloned();
        }
        let names = &self.vm.names;
        let (outcome, limits) = match decision.outcome {
            Outcome::Allowed if !decision.is_introspection => self.spend(&key, &mut details, monotonic),
            outcome => (outcome, counters::report(names, key.key_id, &key.rate_limit, monotonic)),
        };
        let answers = decision.is_introspection && outcome == Outcome::Allowed;
        Ruling {
            outcome,
            endpoint,
            key: Some(AuditKey {
                id: key.key_id,
                name: key.name.to_owned(),
                version: key.version,
                environment: key.environment,
            }),
            scopes: key.scopes.to_owned(),
            info: answers.then(|| KeyInfo::new(&key, &limits)),
            limits: Some(limits),
            // Who is refused can send any number of anything.
            payload_bytes: if outcome == Outcome::Allowed { policy.payload_bytes(decision.route) } else { 0 },
            details,
        }
    }

    /// Step 6: only what passed steps 1 to 5 is counted.
    fn spend(
        &self,
        key: &CredentialView<'_>,
        details: &mut Details,
        now: MonotonicNanos,
    ) -> (Outcome, LimitReport) {
        let names = &self.vm.names;
        match counters::take(names, key.key_id, &key.rate_limit, now) {
            Some(LimitDecision::Admitted { report, .. }) => (Outcome::Allowed, report),
            Some(LimitDecision::Refused { report, retry_after_seconds }) => {
                details.limit = Some(report.window.as_str());
                details.retry_after = Some(retry_after_seconds);
                (Outcome::Denied(Denial::RateLimited), report)
            }
            None => {
                let report = counters::report(names, key.key_id, &key.rate_limit, now);
                (Outcome::Denied(Denial::PolicyUnavailable), report)
            }
        }
    }

    /// Step 7: what goes on carries the filter's word and nobody else's.
    fn mark(&self, request: &Request<'_>, ruling: &Ruling) {
        for name in request.names_to_remove(self.vm.config.strip_credential && ruling.key.is_some()) {
            host::remove_request_header(name);
        }
        if let Some(key) = &ruling.key {
            let mut id = Uuid::encode_buffer();
            host::set_request_header(
                "x-omniflow-key-id",
                key.id.hyphenated().encode_lower(&mut id).as_bytes(),
            );
            host::set_request_header("x-omniflow-key-name", key.name.as_bytes());
            host::set_request_header("x-omniflow-environment", key.environment.as_str().as_bytes());
            host::set_request_header("x-omniflow-scopes", ruling.scopes.as_bytes());
        }
        // The guard behind this filter lets nothing pass without this.
        host::set_filter_state("omf_ok", b"1");
    }

    fn set_filter_state(&self, ruling: &Ruling) {
        host::set_filter_state("omniflow.decision", ruling.outcome.decision().as_bytes());
        host::set_filter_state("omniflow.reason", ruling.outcome.reason().as_bytes());
        if let Some(endpoint) = &ruling.endpoint {
            host::set_filter_state("omniflow.endpoint", endpoint.as_bytes());
        }
        if let Some(key) = &ruling.key {
            host::set_filter_state("omniflow.key_id", key.id.to_string().as_bytes());
            host::set_filter_state("omniflow.key_name", key.name.as_bytes());
            host::set_filter_state("omniflow.environment", key.environment.as_str().as_bytes());
            host::set_filter_state("omniflow.scopes", ruling.scopes.as_bytes());
        }
    }
}

// === callbacks ===

impl Stream {
    pub(crate) fn on_request_headers(&mut self, end_of_stream: bool) -> Action {
        let began = clock::monotonic();
        let now = self.vm.wall_clock(began);
        let headers = host::request_headers();
        let request = Request::read(&headers);
        #[cfg(feature = "fault-injection")]
        if headers.iter().any(|header| header == (&b"x-fault"[..], &b"trap"[..])) {
            std::process::abort();
        }
        let source = host::property("source\0address").and_then(|address| parse_source_address(&address));
        let ruling = self.rule(&request, source, now, began);
        self.vm.metrics.decided(ruling.outcome);
        self.vm.begun.update(|calls| calls.saturating_add(1));
        if self.vm.config.access_log_state {
            self.set_filter_state(&ruling);
        }
        let denial = match ruling.outcome {
            Outcome::Denied(denial) => Some(denial),
            Outcome::Allowed | Outcome::PassedThrough => {
                self.mark(&request, &ruling);
                None
            }
        };
        let (path, query) = split_query(request.target());
        self.call = Some(Box::new(Recorded {
            time: now,
            began,
            method: clip(request.method()),
            path: clip(path),
            request_id: clip(request.id.unwrap_or_default()),
            source,
            outcome: ruling.outcome,
            endpoint: ruling.endpoint,
            key: ruling.key,
            limits: ruling.limits,
            arguments: ArgumentHash::new(query),
            payload: (ruling.payload_bytes > 0 && !(query.is_empty() && end_of_stream)).then(|| {
                let media_type = request.media_type.unwrap_or_default();
                let encoding = request.values("content-encoding");
                let capture = PayloadCapture::new(query, media_type, &encoding, ruling.payload_bytes);
                Capturing::new(&self.vm.payload_room, capture)
            }),
            body_complete: end_of_stream,
            request_bytes: 0,
            status: 0,
            response_bytes: 0,
        }));
        match (denial, ruling.info) {
            (Some(denial), _) => {
                respond::refuse(denial, &ruling.details, request.is_grpc());
                Action::Pause
            }
            (None, Some(info)) => {
                info.send();
                Action::Pause
            }
            (None, None) => Action::Continue,
        }
    }

    pub(crate) fn on_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let Some(call) = &mut self.call {
            call.request_bytes = call.request_bytes.saturating_add(size as u64);
            if size > 0 {
                let body = host::request_body(size);
                call.arguments.update(&body);
                if let Some(payload) = &mut call.payload {
                    payload.add(&body);
                }
            }
            call.body_complete |= end_of_stream;
        }
        Action::Continue
    }

    pub(crate) fn on_request_trailers(&mut self) -> Action {
        if let Some(call) = &mut self.call {
            // With trailers the body itself never comes to an end of the stream.
            call.body_complete = true;
        }
        // Some servers take trailers for headers.
        for (name, _) in host::request_trailers().iter() {
            if header_role(name) != HeaderRole::Other {
                host::remove_request_trailer(name);
            }
        }
        Action::Continue
    }

    pub(crate) fn on_response_headers(&mut self) -> Action {
        if let Some(call) = &mut self.call {
            // Here and not among the attributes of the finished stream, each of which costs as much as several calls.
            call.status = host::response_status().unwrap_or_default();
            if let Some(limits) = &call.limits {
                respond::set_rate_limit_headers(limits);
            }
        }
        Action::Continue
    }

    pub(crate) fn on_response_body(&mut self, size: usize) -> Action {
        if let Some(call) = &mut self.call {
            call.response_bytes = call.response_bytes.saturating_add(size as u64);
        }
        Action::Continue
    }

    /// The end, whatever has become of the request.
    pub(crate) fn finish(self) {
        // A stream that another filter has answered before this one saw it was no call of a key.
        let Some(call) = self.call else { return };
        if call.key.is_none()
            && let Outcome::Denied(reason) = call.outcome
            && self.vm.audit.borrow_mut().fold(call.source, reason, call.time)
        {
            return;
        }
        let now = clock::monotonic();
        let record = AuditRecord {
            sequence: 0,
            time: call.time,
            key: call.key,
            method: call.method,
            endpoint: call.endpoint,
            path: call.path,
            status: call.status,
            outcome: call.outcome,
            latency_us: u64::try_from(now.since(call.began).as_micros()).unwrap_or(u64::MAX),
            source_ip: call.source,
            request_id: call.request_id,
            request_bytes: call.request_bytes,
            response_bytes: call.response_bytes,
            argument_hash: call.arguments.finish(),
            argument_hash_partial: !call.body_complete,
        };
        let is_complete = call.body_complete;
        let payload = call.payload.and_then(|payload| payload.finish(is_complete));
        self.vm.record(record, payload, now);
    }
}

impl Ruling {
    /// About a caller of whom no key is known.
    fn unidentified(outcome: Outcome) -> Self {
        Self {
            outcome,
            endpoint: None,
            key: None,
            scopes: String::new(),
            limits: None,
            payload_bytes: 0,
            details: Details::default(),
            info: None,
        }
    }
}

impl<'a> Request<'a> {
    fn read(headers: &'a Headers) -> Self {
        let mut request = Self { headers, method: None, target: None, media_type: None, id: None };
        for (name, value) in headers.iter() {
            let field = match name {
                b":method" => &mut request.method,
                b":path" => &mut request.target,
                b"content-type" => &mut request.media_type,
                b"x-request-id" => &mut request.id,
                _ => continue,
            };
            field.get_or_insert(value);
        }
        request
    }

    fn method(&self) -> &'a [u8] {
        self.method.unwrap_or_default()
    }

    fn target(&self) -> &'a [u8] {
        self.target.unwrap_or_default()
    }

    /// All headers of a name, with commas between.
    fn values(&self, name: &str) -> Vec<u8> {
        let named = self.headers.iter().filter(|(known, _)| *known == name.as_bytes());
        named.map(|(_, value)| value).collect::<Vec<_>>().join(&b',')
    }

    fn is_grpc(&self) -> bool {
        let media_type = self.media_type.unwrap_or_default();
        media_type
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"))
    }

    /// Headers that must not go on.
    fn names_to_remove(&self, credential: bool) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().map(|(name, _)| name).filter(move |name| match header_role(name) {
            HeaderRole::Forged => true,
            HeaderRole::Credential => credential,
            HeaderRole::Other => false,
        })
    }
}
