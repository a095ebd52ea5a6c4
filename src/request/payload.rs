//! The payloads of calls in flight, within the room that a VM has for them.
//!
//! When the buffer is full, payloads of the key with the largest share are evicted, so that no client can prevent the
//! payloads of other keys from being recorded.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use omniflow_policy::payload::{CallPayload, PayloadCapture};
use uuid::Uuid;

/// An eviction frees at least this fraction of the room, so that few requests trigger one.
const MIN_EVICTION: usize = 8;
/// Room is reserved in this number of blocks, so that the query string and the body of most calls need one reservation.
const BLOCKS: usize = 4_096;

/// The bytes of payloads that a VM may hold for calls in flight, so that many slow clients cannot fill its memory.
pub(crate) struct PayloadRoom {
    capacity: usize,
    holdings: RefCell<Holdings>,
    next: Cell<u64>,
}

/// The payloads that hold room, in orders in which the next to evict is found without visiting the others.
#[derive(Default)]
struct Holdings {
    held: usize,
    /// The payloads of each key, by size and number.
    payloads: BTreeMap<Uuid, KeyHoldings>,
    /// The keys, by the bytes that they hold.
    keys: BTreeSet<(usize, Uuid)>,
}

#[derive(Default)]
struct KeyHoldings {
    held: usize,
    payloads: BTreeMap<(usize, u64), Rc<Slot>>,
}

/// The part of the room that one call uses.
struct Slot {
    id: u64,
    key: Uuid,
    capture: RefCell<PayloadCapture>,
    /// The length of the payload.
    used: Cell<usize>,
    /// The reserved bytes, in whole blocks.
    held: Cell<usize>,
    has_room: Cell<bool>,
}

/// The payload of one call while its body passes through. It releases its room when it is dropped.
pub(crate) struct CapturedPayload {
    slot: Rc<Slot>,
    room: Rc<PayloadRoom>,
}

// === impl PayloadRoom ===

impl PayloadRoom {
    pub(crate) fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Self { capacity, holdings: RefCell::default(), next: Cell::new(0) })
    }

    /// Reserves room for a call. Returns `false` if there is not enough.
    fn reserve(&self, slot: &Rc<Slot>, bytes: usize) -> bool {
        let used = slot.used.get().saturating_add(bytes);
        let block = self.capacity.div_ceil(BLOCKS).max(1);
        let bytes = used.div_ceil(block).saturating_mul(block).saturating_sub(slot.held.get());
        slot.used.set(used);
        if bytes == 0 {
            return true;
        }
        let mut holdings = self.holdings.borrow_mut();
        if holdings.held.saturating_add(bytes) > self.capacity {
            holdings.evict(slot.key, bytes, bytes.max(self.capacity / MIN_EVICTION));
        }
        if holdings.held.saturating_add(bytes) > self.capacity {
            return false;
        }
        holdings.resize(slot, slot.held.get().saturating_add(bytes));
        true
    }

    /// Removes the content of a payload and releases its room.
    fn release(&self, slot: &Rc<Slot>) {
        self.holdings.borrow_mut().release(slot);
    }
}

// === impl Holdings ===

impl Holdings {
    /// Evicts the largest payloads of the key that holds the most, up to `to_free` bytes, while that key holds more than
    /// `key` would with these bytes in addition.
    fn evict(&mut self, key: Uuid, bytes: usize, mut to_free: usize) {
        let own = self.payloads.get(&key).map_or(0, |of_key| of_key.held).saturating_add(bytes);
        let Some(largest) = self.keys.last().map(|(_, largest)| *largest).filter(|largest| *largest != key)
        else {
            return;
        };
        while to_free > 0
            && let Some(theirs) = self.payloads.get(&largest).filter(|theirs| theirs.held > own)
            && let Some((_, slot)) = theirs.payloads.last_key_value()
        {
            let slot = Rc::clone(slot);
            to_free = to_free.saturating_sub(slot.held.get());
            self.release(&slot);
        }
    }

    fn release(&mut self, slot: &Rc<Slot>) {
        slot.has_room.set(false);
        slot.capture.borrow_mut().clear();
        self.resize(slot, 0);
    }

    /// Changes the room that a payload holds.
    fn resize(&mut self, slot: &Rc<Slot>, held: usize) {
        let before = slot.held.replace(held);
        if before == held {
            return;
        }
        let of_key = self.payloads.entry(slot.key).or_default();
        self.keys.remove(&(of_key.held, slot.key));
        of_key.payloads.remove(&(before, slot.id));
        of_key.held = of_key.held.saturating_sub(before).saturating_add(held);
        if held > 0 {
            of_key.payloads.insert((held, slot.id), Rc::clone(slot));
        }
        if of_key.held > 0 {
            self.keys.insert((of_key.held, slot.key));
        } else {
            self.payloads.remove(&slot.key);
        }
        self.held = self.held.saturating_sub(before).saturating_add(held);
    }
}

// === impl CapturedPayload ===

impl CapturedPayload {
    pub(crate) fn new(room: &Rc<PayloadRoom>, key: Uuid, capture: PayloadCapture) -> Self {
        let bytes = capture.len();
        let slot = Rc::new(Slot {
            id: room.next.replace(room.next.get().wrapping_add(1)),
            key,
            capture: RefCell::new(capture),
            used: Cell::new(0),
            held: Cell::new(0),
            has_room: Cell::new(true),
        });
        if !room.reserve(&slot, bytes) {
            room.release(&slot);
        }
        Self { slot, room: Rc::clone(room) }
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

    /// Bytes and payloads in the room.
    fn held(room: &PayloadRoom) -> (usize, usize) {
        let holdings = room.holdings.borrow();
        let of_keys: usize = holdings.payloads.values().map(|of_key| of_key.held).sum();
        assert_eq!((of_keys, holdings.keys.len()), (holdings.held, holdings.payloads.len()));
        (holdings.held, holdings.payloads.values().map(|of_key| of_key.payloads.len()).sum())
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
        assert_eq!(held(&room), (10, 1), "the second has released all of its room");
        let summary = second.finish(true);
        let summary = summary
            .map(|payload| (payload.state, payload.query.len() + payload.body.len(), payload.media_type));
        assert_eq!(summary, Some((PayloadState::NoRoom, 0, "text/plain".to_owned())));

        first.add(b"0123456789");
        assert!(begin(&room, 1, b"0").slot.capture.borrow().is_empty(), "a payload without room is not held");
        assert_eq!(state(begin(&room, 1, b"0")), Some(PayloadState::NoRoom));
        let whole = first.finish(true).map(|payload| (payload.state, payload.body.len()));
        assert_eq!(whole, Some((PayloadState::Whole, 10)));
        assert_eq!(held(&room), (0, 0));
        drop(begin(&room, 1, b"01234567890123456789"));
        assert_eq!(held(&room), (0, 0), "a reset request releases its room");
    }

    #[test]
    fn the_key_with_the_most_payloads_makes_room_for_others() {
        let room = PayloadRoom::new(80);
        let greedy: Vec<_> = (0..9).map(|_| begin(&room, 1, b"0123456789")).collect();
        assert_eq!(held(&room), (80, 8));
        let mut others: Vec<_> = (2..5).map(|key| begin(&room, key, b"01234")).collect();
        for other in &mut others {
            other.add(b"01234");
        }
        assert!(held(&room).0 <= 80);
        for other in others {
            assert_eq!(state(other), Some(PayloadState::Whole));
        }
        let evicted =
            greedy.into_iter().map(state).filter(|state| *state == Some(PayloadState::NoRoom)).count();
        // One that found no room, and one for each of the others.
        assert_eq!(evicted, 4);
        assert_eq!(held(&room), (0, 0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "measures time")]
    fn a_full_room_costs_a_call_the_same_however_many_payloads_it_holds() {
        const PAYLOADS: usize = 50_000;
        let room = PayloadRoom::new(PAYLOADS);
        let _many: Vec<_> = (0..PAYLOADS).map(|_| begin(&room, 1, b"0")).collect();
        let started = std::time::Instant::now();
        for _ in 0..PAYLOADS {
            assert_eq!(state(begin(&room, 1, b"0")), Some(PayloadState::NoRoom));
        }
        // Visiting all of them each time would take minutes.
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
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
