//! This VM's copies of snapshot segments, bounded in bytes.
//!
//! Envoy holds the whole image once; each worker copies the segments that its requests need. If the image is larger
//! than the room for copies, segments that have not been needed for a long time are evicted by the second-chance
//! algorithm (Corbató, "A Paging Experiment with the Multics System", 1968): a clock hand moves over the copies, evicts
//! the first one that was not used since its last visit, and clears the mark of those before it. A request whose
//! segment is cached only sets that mark.

use omniflow_policy::snapshot::Segment;

/// The copies, by segment index.
pub(crate) struct SegmentCache {
    copies: Vec<Option<Copied>>,
    /// Bytes of all copies.
    bytes: usize,
    capacity: usize,
    hand: usize,
}

struct Copied {
    segment: Segment<Vec<u8>>,
    /// Whether it was used since it was copied or since the hand last passed it.
    is_used: bool,
}

impl SegmentCache {
    /// A cache for `segments` segments, with at most `capacity` bytes in total. A segment larger than that is cached
    /// alone.
    pub(crate) fn new(segments: u32, capacity: usize) -> Self {
        Self { copies: (0..segments).map(|_| None).collect(), bytes: 0, capacity, hand: 0 }
    }

    /// The copy of a segment, made by `load` if there is none. `None` for a segment that the image does not have.
    pub(crate) fn get<E>(
        &mut self,
        index: u32,
        load: impl FnOnce() -> Result<Segment<Vec<u8>>, E>,
    ) -> Result<Option<&Segment<Vec<u8>>>, E> {
        let index = index as usize;
        match self.copies.get_mut(index) {
            None => return Ok(None),
            Some(Some(copied)) => copied.is_used = true,
            Some(None) => self.insert(index, load()?),
        }
        Ok(self.copies.get(index).and_then(|copy| copy.as_ref()).map(|copied| &copied.segment))
    }

    /// Drops the copy of a segment that has changed.
    pub(crate) fn remove(&mut self, index: u32) {
        self.evict(index as usize);
    }

    /// Drops all copies.
    pub(crate) fn clear(&mut self) {
        self.copies.iter_mut().for_each(|copy| *copy = None);
        self.bytes = 0;
    }

    /// The number of copies.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.copies.iter().flatten().count()
    }

    fn insert(&mut self, index: usize, segment: Segment<Vec<u8>>) {
        self.make_room(segment.bytes().len());
        if let Some(copy) = self.copies.get_mut(index) {
            self.bytes += segment.bytes().len();
            // A segment that is needed only once is evicted first.
            *copy = Some(Copied { segment, is_used: false });
        }
    }

    fn make_room(&mut self, size: usize) {
        while self.bytes > 0 && self.bytes + size > self.capacity {
            let at = self.hand;
            self.hand = (at + 1) % self.copies.len().max(1);
            match self.copies.get_mut(at) {
                Some(Some(copied)) if copied.is_used => copied.is_used = false,
                _ => self.evict(at),
            }
        }
    }

    fn evict(&mut self, index: usize) {
        if let Some(copied) = self.copies.get_mut(index).and_then(Option::take) {
            self.bytes = self.bytes.saturating_sub(copied.segment.bytes().len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use omniflow_policy::snapshot::SegmentId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const BITS: u8 = 4;

    /// An empty segment. All have the same size.
    fn segment(index: u32) -> Segment<Vec<u8>> {
        let id = SegmentId { installation: Uuid::nil(), bits: BITS, index };
        Segment::build(id, 1, Vec::new()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A cache of 16 segments with room for this many.
    fn cache(copies: usize) -> SegmentCache {
        SegmentCache::new(1 << BITS, copies * segment(0).bytes().len())
    }

    /// Whether the segment had to be loaded.
    fn is_loaded(cache: &mut SegmentCache, index: u32) -> bool {
        let mut loaded = false;
        let found = cache.get(index, || {
            loaded = true;
            Ok::<_, Infallible>(segment(index))
        });
        let Ok(Some(found)) = found else { panic!("segment {index} is not found") };
        assert_eq!(found.bytes(), segment(index).bytes());
        loaded
    }

    #[test]
    fn used_segments_stay_and_unused_ones_are_evicted() {
        let mut cache = cache(3);
        assert!([0, 1, 2].map(|index| is_loaded(&mut cache, index)).iter().all(|loaded| *loaded));
        assert!(!is_loaded(&mut cache, 0) && !is_loaded(&mut cache, 2));
        assert!(is_loaded(&mut cache, 3), "in place of segment 1");
        assert!(!is_loaded(&mut cache, 0) && !is_loaded(&mut cache, 2) && is_loaded(&mut cache, 1));
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn changed_segment_is_loaded_again() {
        let mut cache = cache(16);
        for index in 0..16 {
            assert!(is_loaded(&mut cache, index));
        }
        cache.remove(7);
        cache.remove(99);
        assert!(is_loaded(&mut cache, 7) && !is_loaded(&mut cache, 8));
        cache.clear();
        assert_eq!(cache.len(), 0);
        assert!(is_loaded(&mut cache, 8));
    }

    #[test]
    fn cache_without_room_still_finds_every_segment() {
        let mut cache = SegmentCache::new(1 << BITS, 1);
        for index in [3, 3, 4, 3] {
            is_loaded(&mut cache, index);
            assert_eq!(cache.len(), 1);
        }
        let found = cache.get(16, || Ok::<_, Infallible>(segment(0)));
        assert!(matches!(found, Ok(None)), "there is no such segment");
    }

    #[test]
    fn failed_load_leaves_other_copies() {
        let mut cache = cache(2);
        is_loaded(&mut cache, 1);
        assert!(cache.get(2, || Err(())).is_err());
        assert!(!is_loaded(&mut cache, 1));
    }

    proptest! {
        #[test]
        fn copies_never_exceed_the_capacity(
            capacity in 1usize..8,
            steps in prop::collection::vec((0u32..16, 0u8..8), 0..200),
        ) {
            let size = segment(0).bytes().len();
            let mut cache = cache(capacity);
            for (index, step) in steps {
                match step {
                    0 => cache.remove(index),
                    1 if index == 0 => cache.clear(),
                    _ => {
                        is_loaded(&mut cache, index);
                    }
                }
                prop_assert!(cache.bytes <= capacity * size);
                prop_assert_eq!(cache.bytes, cache.len() * size);
            }
        }
    }
}
