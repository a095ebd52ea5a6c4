//! The payloads of calls in flight, within the room that a VM has for them.

use std::cell::Cell;
use std::rc::Rc;

use omniflow_policy::payload::{CallPayload, PayloadCapture};

/// The bytes of payloads that a VM may hold for calls in flight, so that many slow clients cannot fill its memory.
pub(crate) struct PayloadRoom {
    held: Cell<usize>,
    capacity: usize,
}

/// The payload of one call while its body passes. It releases its room when it is dropped.
pub(crate) struct CapturedPayload {
    capture: PayloadCapture,
    room: Rc<PayloadRoom>,
    held: usize,
    has_room: bool,
}

// === impl PayloadRoom ===

impl PayloadRoom {
    pub(crate) fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Self { held: Cell::new(0), capacity })
    }

    /// Reserves room. Returns `false` if there is not enough.
    fn reserve(&self, bytes: usize) -> bool {
        let held = self.held.get().saturating_add(bytes);
        if held <= self.capacity {
            self.held.set(held);
        }
        held <= self.capacity
    }
}

// === impl CapturedPayload ===

impl CapturedPayload {
    pub(crate) fn new(room: &Rc<PayloadRoom>, mut capture: PayloadCapture) -> Self {
        let held = capture.len();
        let has_room = room.reserve(held);
        if !has_room {
            capture.clear();
        }
        Self { capture, room: Rc::clone(room), held: if has_room { held } else { 0 }, has_room }
    }

    /// Adds a chunk of the body while there is room for it.
    pub(crate) fn add(&mut self, body: &[u8]) {
        if !self.has_room {
            return;
        }
        let kept = self.capture.add(body);
        self.has_room = self.room.reserve(kept);
        if self.has_room {
            self.held += kept;
        } else {
            self.release();
            self.capture.clear();
        }
    }

    /// The payload. `None` if it is empty. `is_complete`: the whole body has passed.
    pub(crate) fn finish(mut self, is_complete: bool) -> Option<CallPayload> {
        let capture = std::mem::replace(&mut self.capture, PayloadCapture::new(b"", b"", b"", 0));
        if self.has_room { capture.finish(is_complete) } else { Some(capture.without_content()) }
    }

    fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.room.held.update(|all| all.saturating_sub(held));
    }
}

impl Drop for CapturedPayload {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::payload::PayloadState;

    use super::*;

    fn begin(room: &Rc<PayloadRoom>, query: &[u8]) -> CapturedPayload {
        CapturedPayload::new(room, PayloadCapture::new(query, b"text/plain", b"", 100))
    }

    #[test]
    fn payload_without_room_is_marked_and_a_finished_one_releases_its_room() {
        let room = PayloadRoom::new(20);
        let mut first = begin(&room, b"0123456789");
        let mut second = begin(&room, b"01234");
        second.add(b"0123456789");
        second.add(b"0123456789");
        assert_eq!(room.held.get(), 10, "the second has released all of its room");
        let summary = second.finish(true);
        let summary = summary
            .map(|payload| (payload.state, payload.query.len() + payload.body.len(), payload.media_type));
        assert_eq!(summary, Some((PayloadState::NoRoom, 0, "text/plain".to_owned())));

        first.add(b"0123456789");
        assert!(begin(&room, b"0").capture.is_empty(), "a payload without room is not held");
        assert_eq!(begin(&room, b"0").finish(true).map(|payload| payload.state), Some(PayloadState::NoRoom));
        let whole = first.finish(true).map(|payload| (payload.state, payload.body.len()));
        assert_eq!(whole, Some((PayloadState::Whole, 10)));
        assert_eq!(room.held.get(), 0);
        drop(begin(&room, b"01234567890123456789"));
        assert_eq!(room.held.get(), 0, "a reset request releases its room");
    }
}
