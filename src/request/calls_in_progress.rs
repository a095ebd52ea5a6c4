//! The calls that are in progress in this VM and were charged to a key.
//!
//! A call that lasts is reported as in progress, so that it is visible before it ends. A call whose key is revoked or
//! expires meanwhile is ended: its stream could otherwise outlive the key by hours.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use omniflow_policy::denial::Denial;
use omniflow_policy::time::{MonotonicNanos, UnixMillis};

use super::record::CallRecord;
use crate::clock;
use crate::host::{self, ContextId};
use crate::snapshot::view::SnapshotView;
use crate::vm::Vm;

/// How long a call is in progress before it is reported.
const REPORTED_AFTER: Duration = Duration::from_secs(5);
/// The time between two checks of all calls for their age and for the expiry of their keys.
const SCAN_PERIOD: Duration = Duration::from_millis(500);
/// The number of calls that are looked up at once after a change of the whole snapshot.
const LOOKUPS_AT_ONCE: usize = 1_000;
/// The number of calls that are ended at once. Each costs Envoy the end of a stream, in the thread that serves requests.
const ENDS_AT_ONCE: u64 = 256;

/// A call that its request and the root context share.
pub(crate) type SharedCall = Rc<RefCell<CallRecord>>;

/// The calls in progress.
#[derive(Default)]
pub(crate) struct CallsInProgress {
    /// Entries of calls that have ended are reused.
    entries: Vec<Option<ActiveCall>>,
    free: Vec<usize>,
    scanned: MonotonicNanos,
    /// The next entry to look up after a change of the whole snapshot.
    sweep: Option<usize>,
    /// Calls to be ended, and why.
    invalid: VecDeque<(usize, ContextId, Denial)>,
}

struct ActiveCall {
    context: ContextId,
    call: SharedCall,
}

/// The place of a call among the calls in progress.
#[derive(Clone, Copy)]
pub(crate) struct Slot(usize);

// === impl CallsInProgress ===

impl CallsInProgress {
    pub(crate) fn add(&mut self, context: ContextId, call: SharedCall) -> Slot {
        let call = Some(ActiveCall { context, call });
        if let Some(free) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(free)
        {
            *entry = call;
            return Slot(free);
        }
        self.entries.push(call);
        Slot(self.entries.len() - 1)
    }

    pub(crate) fn remove(&mut self, Slot(index): Slot) {
        if let Some(entry) = self.entries.get_mut(index)
            && entry.take().is_some()
        {
            self.free.push(index);
        }
    }

    /// Reports calls that are in progress for long, and ends those whose key is no longer valid. Only in callbacks of the root
    /// context.
    pub(super) fn supervise(&mut self, vm: &Vm, root: ContextId) {
        let now = clock::monotonic();
        let wall = vm.wall_clock(now);
        self.check_changes(&mut vm.snapshot.borrow_mut(), wall);
        self.scan(vm, now, wall);
        let ended = self.end_invalid(root);
        vm.metrics.add_calls_terminated(ended);
    }

    /// Marks the calls whose keys are no longer valid after the changes of the snapshot since the last check.
    fn check_changes(&mut self, snapshot: &mut SnapshotView, wall: UnixMillis) {
        let changes = snapshot.take_changes();
        if changes.all {
            self.sweep = Some(0);
        }
        if !changes.segments.is_empty() {
            self.check(snapshot, wall, 0..self.entries.len(), |segment| changes.segments.contains(&segment));
        }
        if let Some(start) = self.sweep {
            let end = self.entries.len().min(start.saturating_add(LOOKUPS_AT_ONCE));
            self.check(snapshot, wall, start..end, |_| true);
            self.sweep = (end < self.entries.len()).then_some(end);
        }
    }

    /// Looks up the keys of some calls.
    fn check(
        &mut self,
        snapshot: &mut SnapshotView,
        wall: UnixMillis,
        indices: std::ops::Range<usize>,
        is_affected: impl Fn(u32) -> bool,
    ) {
        for index in indices {
            let Some(Some(ActiveCall { context, call })) = self.entries.get(index) else { continue };
            let mut call = call.borrow_mut();
            let Some(credential) = call.credential() else { continue };
            if !snapshot.segment_of(&credential.digest).is_some_and(&is_affected) {
                continue;
            }
            let denial = match snapshot.find(&credential.digest) {
                Ok(Some(key)) => {
                    credential.not_after = key.not_after;
                    key.invalidity(wall)
                }
                Ok(None) => Some(Denial::UnknownKey),
                // It is looked up again at the next tick.
                Err(_) => None,
            };
            if let Some(denial) = denial
                && call.mark_ending()
            {
                self.invalid.push_back((index, *context, denial));
            }
        }
    }

    /// Marks the calls whose keys have expired, and reports those that are in progress for long.
    fn scan(&mut self, vm: &Vm, now: MonotonicNanos, wall: UnixMillis) {
        if now.since(self.scanned) < SCAN_PERIOD {
            return;
        }
        self.scanned = now;
        for (index, entry) in self.entries.iter().enumerate() {
            let Some(ActiveCall { context, call }) = entry else { continue };
            let mut call = call.borrow_mut();
            if call.credential().is_some_and(|used| used.not_after.is_some_and(|end| wall >= end))
                && call.mark_ending()
            {
                self.invalid.push_back((index, *context, Denial::KeyExpired));
            }
            if call.is_unreported(REPORTED_AFTER, now)
                && let Some(number) = vm.audit.borrow_mut().push_in_progress(call.so_far(now), now)
            {
                call.set_reported(number);
            }
        }
    }

    /// Ends calls whose keys are no longer valid. Returns how many.
    fn end_invalid(&mut self, root: ContextId) -> u64 {
        let mut ended = 0;
        while ended < ENDS_AT_ONCE
            && let Some((index, context, denial)) = self.invalid.pop_front()
        {
            // The call may have ended meanwhile, and another may have its entry.
            if let Some(Some(open)) = self.entries.get(index)
                && open.context == context
                && open.call.borrow().is_open()
            {
                host::on_behalf_of(context, root, || open.call.borrow_mut().end(denial));
                ended += 1;
            }
        }
        ended
    }
}
