//! The calls that outlive a callback, shared by all requests of a VM and its root context.

use std::cell::RefCell;

use super::calls_in_progress::CallsInProgress;
use super::redirect::RedirectedCalls;
use crate::host::ContextId;
use crate::vm::Vm;

#[derive(Default)]
pub(crate) struct Calls {
    pub(super) in_progress: RefCell<CallsInProgress>,
    pub(super) redirected: RefCell<RedirectedCalls>,
}

impl Calls {
    /// Reports calls that are in progress for long, and ends those whose key is no longer valid. Only in callbacks of the root
    /// context.
    pub(crate) fn supervise(&self, vm: &Vm, root: ContextId) {
        self.in_progress.borrow_mut().supervise(vm, root);
    }

    /// Records the redirected calls that no stream has continued for too long, or all of them.
    pub(crate) fn finish_abandoned(&self, vm: &Vm, all: bool) {
        self.redirected.borrow_mut().finish_abandoned(vm, all);
    }
}
