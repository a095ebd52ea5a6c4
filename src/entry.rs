//! The callbacks that Envoy makes, and the contexts that they are for: root contexts, one for each configuration in this VM,
//! and one context a request.
//!
//! A callback that a module does not export is not made, and each of them costs a crossing for every request. `proxy_on_log`
//! and `proxy_on_delete` are missing because `proxy_on_done` follows right before or after them, once for each request.

// An exported symbol counts as unsafe code: another of the same name would take its place.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use omniflow_policy::outcome::Denial;

use crate::respond::{self, Details};
use crate::root::Root;
use crate::stream::{Action, Stream};

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

#[derive(Default)]
struct Contexts {
    /// Seldom more than one.
    roots: Vec<(u32, Root)>,
    streams: HashMap<u32, Stream, BuildHasherDefault<ContextIdHasher>>,
}

/// Envoy counts contexts up, so that no caller can choose their numbers.
#[derive(Default)]
struct ContextIdHasher(u64);

// === impl Contexts ===

impl Contexts {
    fn create(&mut self, context: u32, root: u32) {
        if root == 0 {
            self.roots.push((context, Root::new()));
        } else if let Some(stream) = self.root(root).and_then(|root| root.stream()) {
            self.streams.insert(context, stream);
        }
    }

    fn root(&mut self, context: u32) -> Option<&mut Root> {
        self.roots.iter_mut().find(|(id, _)| *id == context).map(|(_, root)| root)
    }

    fn stream(&mut self, context: u32) -> Option<&mut Stream> {
        self.streams.get_mut(&context)
    }

    fn done(&mut self, context: u32) -> bool {
        if let Some(stream) = self.streams.remove(&context) {
            stream.finish();
            return true;
        }
        let is_done = self.root(context).is_none_or(Root::on_done);
        if is_done {
            self.roots.retain(|(id, _)| *id != context);
        }
        is_done
    }
}

/// Envoy makes no callback while another is under way in the same VM, but for `proxy_on_memory_allocate`, which needs no
/// context. Should it ever, the answer is `otherwise`: a panic would end the VM.
fn with<T>(otherwise: T, work: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS.with(|contexts| match contexts.try_borrow_mut() {
        Ok(mut contexts) => work(&mut contexts),
        Err(_) => otherwise,
    })
}

fn with_root(context: u32, work: impl FnOnce(&mut Root)) {
    with((), |contexts| {
        if let Some(root) = contexts.root(context) {
            work(root);
        }
    });
}

fn with_stream(context: u32, work: impl FnOnce(&mut Stream) -> Action) -> Action {
    with(Action::Continue, |contexts| contexts.stream(context).map_or(Action::Continue, work))
}

// === impl ContextIdHasher ===

impl Hasher for ContextIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing (Knuth, TAOCP 3, 6.4): the map takes the upper bits for its groups and the lower for places.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

// === callbacks ===

#[cfg(target_os = "wasi")]
unsafe extern "C" {
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    #[cfg(target_os = "wasi")]
    // SAFETY: the linker's own function, called once, before anything else.
    unsafe {
        __wasm_call_ctors();
    }
}

/// Tells the version of the ABI by its name.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    with((), |contexts| contexts.create(context, root));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, _size: usize) -> bool {
    with(false, |contexts| contexts.root(context).is_some_and(Root::on_configure))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(context: u32) {
    with_root(context, Root::on_tick);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(context: u32, _queue: u32) {
    with_root(context, Root::on_queue_ready);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(
    context: u32,
    call: u32,
    headers: usize,
    body: usize,
    _trailers: usize,
) {
    with_root(context, |root| root.on_http_call_response(call, headers, body));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, _headers: usize, end_of_stream: bool) -> Action {
    let decided = with(None, |contexts| {
        contexts.stream(context).map(|stream| stream.on_request_headers(end_of_stream))
    });
    decided.unwrap_or_else(|| {
        // There is no configuration to judge it by.
        respond::refuse(Denial::PolicyUnavailable, &Details::default(), false);
        Action::Pause
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: usize, end_of_stream: bool) -> Action {
    with_stream(context, |stream| stream.on_request_body(size, end_of_stream))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, _trailers: usize) -> Action {
    with_stream(context, Stream::on_request_trailers)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, _headers: usize, _end_of_stream: bool) -> Action {
    with_stream(context, Stream::on_response_headers)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: usize, _end_of_stream: bool) -> Action {
    with_stream(context, |stream| stream.on_response_body(size))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> bool {
    with(true, |contexts| contexts.done(context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_lie_apart() {
        let hash = |number: u32| {
            let mut hasher = ContextIdHasher::default();
            hasher.write_u32(number);
            hasher.finish()
        };
        let low: std::collections::HashSet<_> = (0..64).map(|number| hash(number) % 64).collect();
        let high: std::collections::HashSet<_> = (0..64).map(|number| hash(number) >> 57).collect();
        assert!(low.len() > 32 && high.len() > 32, "{} {}", low.len(), high.len());
    }
}
