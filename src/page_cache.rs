//! This VM's copies of pages, at most so many bytes of them.
//!
//! Envoy holds the whole image once; each worker copies the pages that its requests need. Where the image is larger than
//! the room for copies, pages that were not needed for long make room for others, by second chance (Corbató, "A Paging
//! Experiment with the Multics System", 1968): a hand goes round over the copies, drops the first that was not used since
//! its last visit, and forgets of all others that they were. It costs a request that finds its page nothing but a flag.

use omniflow_policy::snapshot::Segment;

/// The copies, by the numbers of their pages.
pub(crate) struct PageCache {
    copies: Vec<Option<Copied>>,
    /// Of all copies.
    bytes: usize,
    capacity: usize,
    hand: usize,
}

struct Copied {
    page: Segment<Vec<u8>>,
    /// Since it was copied, or since the hand went over it.
    is_used: bool,
}

impl PageCache {
    /// Room for copies of `pages` pages, together at most `capacity` bytes. A page that is larger is held alone.
    pub(crate) fn new(pages: u32, capacity: usize) -> Self {
        Self { copies: (0..pages).map(|_| None).collect(), bytes: 0, capacity, hand: 0 }
    }

    /// The copy of a page, made by `load` where there is none. `None` for a page that the image does not have.
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
        Ok(self.copies.get(index).and_then(|copy| copy.as_ref()).map(|copied| &copied.page))
    }

    /// Drops the copy of a page that has changed.
    pub(crate) fn forget(&mut self, index: u32) {
        self.take(index as usize);
    }

    /// Drops all copies.
    pub(crate) fn clear(&mut self) {
        self.copies.iter_mut().for_each(|copy| *copy = None);
        self.bytes = 0;
    }

    /// How many copies there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.copies.iter().flatten().count()
    }

    fn insert(&mut self, index: usize, page: Segment<Vec<u8>>) {
        self.make_room(page.bytes().len());
        if let Some(copy) = self.copies.get_mut(index) {
            self.bytes += page.bytes().len();
            // What is asked for only once goes first.
            *copy = Some(Copied { page, is_used: false });
        }
    }

    fn make_room(&mut self, size: usize) {
        while self.bytes > 0 && self.bytes + size > self.capacity {
            let at = self.hand;
            self.hand = (at + 1) % self.copies.len().max(1);
            match self.copies.get_mut(at) {
                Some(Some(copied)) if copied.is_used => copied.is_used = false,
                _ => self.take(at),
            }
        }
    }

    fn take(&mut self, index: usize) {
        if let Some(copied) = self.copies.get_mut(index).and_then(Option::take) {
            self.bytes = self.bytes.saturating_sub(copied.page.bytes().len());
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

    /// An empty page: of this number, as large as every other.
    fn page(index: u32) -> Segment<Vec<u8>> {
        let id = SegmentId { installation: Uuid::nil(), bits: BITS, index };
        Segment::build(id, 1, Vec::new()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A cache of 16 pages with room for so many.
    fn cache(copies: usize) -> PageCache {
        PageCache::new(1 << BITS, copies * page(0).bytes().len())
    }

    /// Whether the page had to be loaded.
    fn is_loaded(cache: &mut PageCache, index: u32) -> bool {
        let mut loaded = false;
        let found = cache.get(index, || {
            loaded = true;
            Ok::<_, Infallible>(page(index))
        });
        let Ok(Some(found)) = found else { panic!("page {index} is not found") };
        assert_eq!(found.bytes(), page(index).bytes());
        loaded
    }

    #[test]
    fn what_is_used_stays_and_what_was_needed_once_goes() {
        let mut cache = cache(3);
        assert!([0, 1, 2].map(|index| is_loaded(&mut cache, index)).iter().all(|loaded| *loaded));
        assert!(!is_loaded(&mut cache, 0) && !is_loaded(&mut cache, 2));
        assert!(is_loaded(&mut cache, 3), "in place of page 1");
        assert!(!is_loaded(&mut cache, 0) && !is_loaded(&mut cache, 2) && is_loaded(&mut cache, 1));
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn a_page_that_has_changed_is_loaded_anew() {
        let mut cache = cache(16);
        for index in 0..16 {
            assert!(is_loaded(&mut cache, index));
        }
        cache.forget(7);
        cache.forget(99);
        assert!(is_loaded(&mut cache, 7) && !is_loaded(&mut cache, 8));
        cache.clear();
        assert_eq!(cache.len(), 0);
        assert!(is_loaded(&mut cache, 8));
    }

    #[test]
    fn no_room_at_all_still_finds_every_page() {
        let mut cache = PageCache::new(1 << BITS, 1);
        for index in [3, 3, 4, 3] {
            is_loaded(&mut cache, index);
            assert_eq!(cache.len(), 1);
        }
        let found = cache.get(16, || Ok::<_, Infallible>(page(0)));
        assert!(matches!(found, Ok(None)), "there is no such page");
    }

    #[test]
    fn a_page_that_cannot_be_loaded_leaves_what_is_there() {
        let mut cache = cache(2);
        is_loaded(&mut cache, 1);
        assert!(cache.get(2, || Err(())).is_err());
        assert!(!is_loaded(&mut cache, 1));
    }

    proptest! {
        #[test]
        fn copies_never_take_more_than_their_room(
            capacity in 1usize..8,
            steps in prop::collection::vec((0u32..16, 0u8..8), 0..200),
        ) {
            let size = page(0).bytes().len();
            let mut cache = cache(capacity);
            for (index, step) in steps {
                match step {
                    0 => cache.forget(index),
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
