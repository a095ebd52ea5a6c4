//! The payloads of calls in flight, within the room that a VM has for them.
//!
//! When the buffer is full, payloads of the key with the largest share are evicted, so that no client can prevent the
//! payloads of other keys from being recorded.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use omniflow_policy::payload::{CallPayload, PayloadCapture};
use uuid::Uuid;

/// An eviction frees at least this fraction of the room, so that few requests trigger one.
const MIN_EVICTION: usize = 8;

/// The bytes of payloads that a VM may hold for calls in flight, so that many slow clients cannot fill its memory.
pub(crate) struct PayloadRoom {
    held: Cell<usize>,
    capacity: usize,
    slots: RefCell<BTreeMap<u64, Rc<Slot>>>,
    next: Cell<u64>,
}

/// The part of the room that one call uses.
struct Slot {
    key: Uuid,
    capture: RefCell<PayloadCapture>,
    held: Cell<usize>,
    has_room: Cell<bool>,
}

/// The payload of one call while its body passes through. It releases its room when it is dropped.
pub(crate) struct CapturedPayload {
    slot: Rc<Slot>,
    id: u64,
    room: Rc<PayloadRoom>,
}

// === impl PayloadRoom ===

impl PayloadRoom {
    pub(crate) fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Self {
            held: Cell::new(0),
            capacity,
            slots: RefCell::new(BTreeMap::new()),
            next: Cell::new(0),
        })
    }

    /// Reserves room for a call. Returns `false` if there is not enough.
    fn reserve(&self, slot: &Slot, bytes: usize) -> bool {
        if self.held.get().saturating_add(bytes) > self.capacity {
            self.evict(slot.key, bytes);
        }
        let held = self.held.get().saturating_add(bytes);
        if held > self.capacity {
            return false;
        }
        self.held.set(held);
        slot.held.update(|all| all.saturating_add(bytes));
        true
    }

    /// Evicts the largest payloads of the key with the most bytes, if that key would still have more bytes than `key`
    /// would after this reservation.
    fn evict(&self, key: Uuid, bytes: usize) {
        let slots = self.slots.borrow();
        let mut keys: BTreeMap<Uuid, usize> = BTreeMap::new();
        for slot in slots.values() {
            *keys.entry(slot.key).or_default() += slot.held.get();
        }
        let own = keys.get(&key).copied().unwrap_or(0).saturating_add(bytes);
        let Some((largest, mut theirs)) = keys.into_iter().max_by_key(|(_, held)| *held) else { return };
        let mut payloads: Vec<&Slot> = slots
            .values()
            .map(Rc::as_ref)
            .filter(|slot| slot.key == largest && slot.held.get() > 0)
            .collect();
        payloads.sort_by_key(|slot| std::cmp::Reverse(slot.held.get()));
        let mut to_free = bytes.max(self.capacity / MIN_EVICTION);
        for slot in payloads {
            let held = slot.held.get();
            if to_free == 0 || largest == key || theirs <= own {
                break;
            }
            self.release(slot);
            theirs = theirs.saturating_sub(held);
            to_free = to_free.saturating_sub(held);
        }
    }

    /// Removes the content of a payload and releases its room.
    fn release(&self, slot: &Slot) {
        slot.has_room.set(false);
        slot.capture.borrow_mut().clear();
        let held = slot.held.take();
        self.held.update(|all| all.saturating_sub(held));
    }
}

// === impl CapturedPayload ===

impl CapturedPayload {
    pub(crate) fn new(room: &Rc<PayloadRoom>, key: Uuid, capture: PayloadCapture) -> Self {
        let bytes = capture.len();
        let slot = Rc::new(Slot {
            key,
            capture: RefCell::new(capture),
            held: Cell::new(0),
            has_room: Cell::new(true),
        });
        if !room.reserve(&slot, bytes) {
            room.release(&slot);
        }
        let id = room.next.replace(room.next.get().wrapping_add(1));
        room.slots.borrow_mut().insert(id, Rc::clone(&slot));
        Self { slot, id, room: Rc::clone(room) }
    }

    /// Adds a chunk of the body while there is room for it.
    pub(crate) fn add(&mut self, body: &[u8]) {
        if !self.slot.has_room.get() {
            return;
        }
        let kept = self.slot.capture.borrow_mut().add(body);
        if !self.room.reserve(&self.slot, kept) {
            self.room.release(&self.slot);
        }
    }

    /// The payload. `None` if it is empty. `is_complete`: the whole body has passed.
    pub(crate) fn finish(self, is_complete: bool) -> Option<CallPayload> {
        let capture = self.slot.capture.replace(PayloadCapture::new(b"", b"", b"", 0));
        if self.slot.has_room.get() { capture.finish(is_complete) } else { Some(capture.without_content()) }
    }
}

impl Drop for CapturedPayload {
    fn drop(&mut self) {
        self.room.slots.borrow_mut().remove(&self.id);
        self.room.release(&self.slot);
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::payload::PayloadState;

    use super::*;

    fn begin(room: &Rc<PayloadRoom>, key: u128, query: &[u8]) -> CapturedPayload {
        CapturedPayload::new(room, Uuid::from_u128(key), PayloadCapture::new(query, b"text/plain", b"", 100))
    }

    fn state(payload: CapturedPayload) -> Option<PayloadState> {
        payload.finish(true).map(|payload| payload.state)
    }

    #[test]
    fn payload_without_room_is_marked_and_a_finished_one_releases_its_room() {
        let room = PayloadRoom::new(20);
        let mut first = begin(&room, 1, b"0123456789");
        let mut second = begin(&room, 1, b"01234");
        second.add(b"0123456789");
        second.add(b"0123456789");
        assert_eq!(room.held.get(), 10, "the second has released all of its room");
        let summary = second.finish(true);
        let summary = summary
            .map(|payload| (payload.state, payload.query.len() + payload.body.len(), payload.media_type));
        assert_eq!(summary, Some((PayloadState::NoRoom, 0, "text/plain".to_owned())));

        first.add(b"0123456789");
        assert!(begin(&room, 1, b"0").slot.capture.borrow().is_empty(), "a payload without room is not held");
        assert_eq!(state(begin(&room, 1, b"0")), Some(PayloadState::NoRoom));
        let whole = first.finish(true).map(|payload| (payload.state, payload.body.len()));
        assert_eq!(whole, Some((PayloadState::Whole, 10)));
        assert_eq!(room.held.get(), 0);
        drop(begin(&room, 1, b"01234567890123456789"));
        assert_eq!((room.held.get(), room.slots.borrow().len()), (0, 0), "a reset request releases its room");
    }

    #[test]
    fn the_key_with_the_most_payloads_makes_room_for_others() {
        let room = PayloadRoom::new(80);
        let greedy: Vec<_> = (0..9).map(|_| begin(&room, 1, b"0123456789")).collect();
        assert_eq!(room.held.get(), 80);
        let mut others: Vec<_> = (2..5).map(|key| begin(&room, key, b"01234")).collect();
        for other in &mut others {
            other.add(b"01234");
        }
        assert!(room.held.get() <= 80);
        for other in others {
            assert_eq!(state(other), Some(PayloadState::Whole));
        }
        let evicted =
            greedy.into_iter().map(state).filter(|state| *state == Some(PayloadState::NoRoom)).count();
        // One that found no room, and one for each of the others.
        assert_eq!(evicted, 4);
        assert_eq!((room.held.get(), room.slots.borrow().len()), (0, 0));
    }

    #[test]
    fn keys_share_the_room_equally_and_do_not_evict_each_other_for_ever() {
        let room = PayloadRoom::new(80);
        let mut all = Vec::new();
        for _ in 0..50 {
            all.push((1, begin(&room, 1, b"0123456789")));
            all.push((2, begin(&room, 2, b"0123456789")));
        }
        let whole = |key| {
            let of_key = all.iter().filter(|(of, _)| *of == key);
            of_key.filter(|(_, payload)| payload.slot.has_room.get()).count()
        };
        assert_eq!((whole(1), whole(2)), (4, 4));
    }
}
