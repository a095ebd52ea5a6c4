//! One request: decide, set identity headers, respond, record.
//!
//! | module | what |
//! |---|---|
//! | [`headers`] | the request's headers |
//! | [`decide`] | the decision: `omniflow_policy::authorize` with the snapshot, then the limits |
//! | [`identity`] | the parts of the decision that the upstream, the guard and access logs receive |
//! | [`response`] | rejections |
//! | [`response_headers`] | the headers of every response: rate limits, caching, gRPC status |
//! | [`introspection`] | the response to a client that queries its own key |
//! | [`payload`] | the arguments of a call, within the room that a VM has for them |
//! | [`record`] | the audit record |
//! | [`redirect`] | requests that Envoy redirects |
//! | [`calls`] | the calls that outlive a callback: those in progress, and those between two streams |
//! | [`calls_in_progress`] | the calls in progress: reports those that last, and ends those whose key is no longer valid |

pub(crate) mod calls;
mod calls_in_progress;
mod decide;
mod headers;
mod identity;
mod introspection;
pub(crate) mod payload;
pub(crate) mod record;
pub(crate) mod redirect;
mod response;
mod response_headers;

use std::cell::RefCell;
use std::rc::Rc;

use omniflow_policy::address::{is_forwarded_unparsed, parse_source_address};
use omniflow_policy::credential::{HeaderRole, header_role};
use omniflow_policy::denial::{Denial, Outcome};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use self::calls::Calls;
use self::calls_in_progress::{SharedCall, Slot};
use self::decide::{DenialDetails, decide};
use self::headers::RequestHeaders;
use self::record::CallRecord;
use self::response_headers::{ResponseHeaders, grpc_status};
use crate::clock;
use crate::host::{self, ContextId};
use crate::vm::Vm;

/// One request. The SDK drops it when Envoy deletes the stream.
pub(crate) struct RequestContext {
    /// `None` if the plugin configuration was rejected: every request is refused then.
    vm: Option<Rc<Vm>>,
    calls: Rc<Calls>,
    id: ContextId,
    /// Present once the request is decided, until its end.
    call: Option<SharedCall>,
    /// The call among the calls in progress, if it was charged to a key.
    slot: Option<Slot>,
}

impl RequestContext {
    pub(crate) fn new(vm: Option<Rc<Vm>>, calls: Rc<Calls>, id: ContextId) -> Self {
        Self { vm, calls, id, call: None, slot: None }
    }
}

impl HttpContext for RequestContext {
    fn on_http_request_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        let Some(vm) = &self.vm else {
            response::refuse(Denial::PolicyUnavailable, &DenialDetails::default(), false);
            return Action::Pause;
        };
        let began = clock::monotonic();
        let now = vm.wall_clock(began);
        let headers = host::request_headers();
        let mut request = RequestHeaders::new(&headers);
        #[cfg(feature = "fault-injection")]
        if headers.get(b"x-fault") == Some(b"trap") {
            std::process::abort();
        }
        let source = host::property("source\0address");
        let source = source.and_then(|address| parse_source_address(&address));
        if is_forwarded_unparsed(request.forwarded_for(), vm.config.trusted_hops) {
            vm.warn_of_forwarded_address(source, began);
        }
        let first = self.calls.redirected.borrow_mut().take(&request);
        let charged = first.as_ref().and_then(CallRecord::charged);
        let mut decision = decide(vm, &mut request, source, now, began, charged);
        let first = first.and_then(|first| {
            if first.is_continued_by(request.method(), decision.outcome) {
                return Some(first);
            }
            first.finish(vm);
            None
        });
        if first.is_none() {
            vm.metrics.add_decision(decision.outcome);
            vm.begun.update(|calls| calls.saturating_add(1));
        }
        if vm.config.access_log_state {
            identity::set_access_log_state(&decision);
        }
        let denial = match decision.outcome {
            Outcome::Denied(denial) => Some(denial),
            Outcome::Allowed | Outcome::PassedThrough => {
                identity::set_identity_headers(&request, &decision, &vm.config);
                None
            }
        };
        let (introspection, details) = (decision.introspection.take(), std::mem::take(&mut decision.details));
        let is_metered = decision.is_metered;
        let call = CallRecord::begin(vm, &request, decision, source, now, began, end_of_stream);
        let call = Rc::new(RefCell::new(call.continuing(first)));
        if is_metered {
            self.slot = Some(self.calls.in_progress.borrow_mut().add(self.id, Rc::clone(&call)));
        }
        self.call = Some(call);
        match (denial, introspection) {
            (Some(denial), _) => response::refuse(denial, &details, request.is_grpc()),
            (None, Some(introspection)) => introspection.send(),
            (None, None) => return Action::Continue,
        }
        Action::Pause
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let Some(call) = &self.call {
            call.borrow_mut().add_request_body(size, end_of_stream);
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        if let Some(call) = &self.call {
            // If there are trailers, the body callback is never called with the end of the stream.
            call.borrow_mut().complete_request_body();
        }
        // Some servers treat trailers as headers.
        for (name, _) in host::request_trailers().iter() {
            if header_role(name) != HeaderRole::Other {
                host::remove_request_trailer(name);
            }
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        if let (Some(vm), Some(call)) = (&self.vm, &self.call) {
            let mut call = call.borrow_mut();
            // Read here instead of in `on_log`, where they are properties, which cost several times as much.
            let headers = ResponseHeaders::new(&host::response_headers());
            headers.set_rate_limits(call.limits(), call.is_allowed());
            if vm.config.private_responses && call.is_metered() {
                headers.set_private();
            }
            call.set_response(headers.status, headers.grpc_status, end_of_stream);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let Some(call) = &self.call {
            call.borrow_mut().add_response_body(size, end_of_stream);
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _num_trailers: usize) -> Action {
        if let Some(call) = &self.call {
            let mut call = call.borrow_mut();
            let status = if call.is_grpc() { grpc_status(&host::response_trailers()) } else { None };
            call.complete_response(status);
        }
        Action::Continue
    }
}

impl Context for RequestContext {
    /// The end of the request, for whatever reason. A request that another filter answered first was never decided and
    /// has no record.
    fn on_done(&mut self) -> bool {
        if let (Some(vm), Some(call)) = (&self.vm, self.call.take()) {
            if let Some(slot) = self.slot.take() {
                self.calls.in_progress.borrow_mut().remove(slot);
            }
            if let Some(call) = Rc::into_inner(call)
                && let Some(call) = self.calls.redirected.borrow_mut().keep(call.into_inner())
            {
                call.finish(vm);
            }
        }
        true
    }
}
