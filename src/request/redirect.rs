//! Internal redirects. With `internal_redirect_policy`, Envoy follows a redirect of the upstream itself: it ends the stream
//! and starts another with the same request for the target, which passes all filters again. The credential is gone by then.
//!
//! The call is therefore kept when its stream ends, under a token in filter state that only filters can set and that the next
//! stream inherits. The target is judged by the key of the call, which is charged once. An allowed target continues the call,
//! which has one record. If the target is refused, or requested with another method, both have a record: the upstream has
//! executed the first, and a record of the target alone would hide it.

use std::collections::BTreeMap;
use std::time::Duration;

use omniflow_policy::time::MonotonicNanos;

use super::headers::RequestHeaders;
use super::record::CallRecord;
use crate::clock;
use crate::host;
use crate::vm::Vm;

/// The filter state with the token of the call.
const STATE: &str = "omniflow.redirect";
/// What Envoy states as the reason for the end of a stream that it starts again.
const REDIRECTED: &[u8] = b"internal_redirect";
/// How long a call waits for its next stream, which a filter before this one may hold or refuse.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The calls between two streams.
#[derive(Default)]
pub(crate) struct RedirectedCalls(BTreeMap<u64, (CallRecord, MonotonicNanos)>);

/// Makes the next stream of a redirected request inherit the filter state. Only in callbacks of the root context.
pub(crate) fn declare_state() {
    host::declare_request_state(STATE);
}

// === impl RedirectedCalls ===

impl RedirectedCalls {
    /// Keeps a call whose stream ends because of an internal redirect. Returns any other call. Only in the callback for the end
    /// of a request.
    pub(super) fn keep(&mut self, mut call: CallRecord) -> Option<CallRecord> {
        // Envoy follows redirects before any response reaches the filters.
        if call.has_response() || host::property("response\0code_details").as_deref() != Some(REDIRECTED) {
            return Some(call);
        }
        let status =
            host::property("response\0code").and_then(|code| Some(u64::from_le_bytes(*code.first_chunk()?)));
        call.set_redirect(status.and_then(|status| u16::try_from(status).ok()).unwrap_or_default());
        let token = host::random_u64();
        host::set_filter_state(STATE, &token.to_le_bytes());
        self.0.insert(token, (call, clock::monotonic()));
        None
    }

    /// The call that a request continues, if it is one that Envoy has redirected. Only in the callback for request headers.
    pub(super) fn take(&mut self, request: &RequestHeaders<'_>) -> Option<CallRecord> {
        // The header saves other requests the look-up. It proves nothing.
        if !request.has_original_url() {
            return None;
        }
        let token = host::property(STATE)?.try_into().ok()?;
        self.0.remove(&u64::from_le_bytes(token)).map(|(call, _)| call)
    }

    /// Records the calls that no stream has continued for too long, or all of them.
    pub(super) fn finish_abandoned(&mut self, vm: &Vm, all: bool) {
        if self.0.is_empty() {
            return;
        }
        let now = clock::monotonic();
        let is_abandoned =
            |_: &u64, (_, since): &mut (CallRecord, MonotonicNanos)| all || now.since(*since) >= MAX_WAIT;
        for (_, (call, _)) in self.0.extract_if(.., is_abandoned) {
            call.finish(vm);
        }
    }
}
