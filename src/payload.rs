//! The arguments of calls that are under way, within the room that a VM has for them.

use std::cell::Cell;
use std::rc::Rc;

use omniflow_policy::payload::{CallPayload, PayloadCapture};

/// Bytes of arguments that a VM holds for calls under way: many callers that send slowly must not fill its memory.
pub(crate) struct PayloadRoom {
    held: Cell<usize>,
    capacity: usize,
}

/// The arguments of one call while they pass. Gives its room back when it ends.
pub(crate) struct Capturing {
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

    fn take(&self, bytes: usize) -> bool {
        let held = self.held.get().saturating_add(bytes);
        if held <= self.capacity {
            self.held.set(held);
        }
        held <= self.capacity
    }
}

// === impl Capturing ===

impl Capturing {
    pub(crate) fn new(room: &Rc<PayloadRoom>, mut capture: PayloadCapture) -> Self {
        let held = capture.len();
        let has_room = room.take(held);
        if !has_room {
            capture.clear();
        }
        Self { capture, room: Rc::clone(room), held: if has_room { held } else { 0 }, has_room }
    }

    /// Takes down a piece of the body, while there is room for it.
    pub(crate) fn add(&mut self, body: &[u8]) {
        if !self.has_room {
            return;
        }
        let kept = self.capture.add(body);
        self.has_room = self.room.take(kept);
        if self.has_room {
            self.held += kept;
        } else {
            self.give_back();
            self.capture.clear();
        }
    }

    /// The arguments; `None` if there are none. `is_complete` tells whether the whole body has passed.
    pub(crate) fn finish(mut self, is_complete: bool) -> Option<CallPayload> {
        let capture = std::mem::replace(&mut self.capture, PayloadCapture::new(b"", b"", b"", 0));
        if self.has_room { capture.finish(is_complete) } else { Some(capture.without_content()) }
    }

    fn give_back(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.room.held.update(|all| all.saturating_sub(held));
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::payload::PayloadState;

    use super::*;

    fn begin(room: &Rc<PayloadRoom>, query: &[u8]) -> Capturing {
        Capturing::new(room, PayloadCapture::new(query, b"text/plain", b"", 100))
    }

    #[test]
    fn what_has_no_room_is_told_and_what_ends_makes_room() {
        let room = PayloadRoom::new(20);
        let mut first = begin(&room, b"0123456789");
        let mut second = begin(&room, b"01234");
        second.add(b"0123456789");
        second.add(b"0123456789");
        assert_eq!(room.held.get(), 10, "the second has given back all");
        let told = second.finish(true);
        let told =
            told.map(|payload| (payload.state, payload.query.len() + payload.body.len(), payload.media_type));
        assert_eq!(told, Some((PayloadState::NoRoom, 0, "text/plain".to_owned())));

        first.add(b"0123456789");
        assert!(begin(&room, b"0").capture.is_empty(), "what has no room is not held either");
        assert_eq!(begin(&room, b"0").finish(true).map(|payload| payload.state), Some(PayloadState::NoRoom));
        let whole = first.finish(true).map(|payload| (payload.state, payload.body.len()));
        assert_eq!(whole, Some((PayloadState::Whole, 10)));
        assert_eq!(room.held.get(), 0);
        drop(begin(&room, b"01234567890123456789"));
        assert_eq!(room.held.get(), 0, "a stream that is reset gives back as well");
    }
}
