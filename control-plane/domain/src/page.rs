//! Paginated lists.

/// Default number of items on a page.
pub const DEFAULT_LIMIT: usize = 100;
/// Maximum number of items on a page.
pub const MAX_LIMIT: usize = 500;

/// Which page of a list. `C` is the place of an item in the list; its text is the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest<C> {
    /// Maximum number of items of the page.
    pub limit: usize,
    /// The last item of the previous page; `None` for the first page.
    pub after: Option<C>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

// === impl PageRequest ===

impl<C> PageRequest<C> {
    /// The first page, with at most `limit` items.
    pub fn first(limit: usize) -> Self {
        Self { limit, after: None }
    }
}

// === impl Page ===

impl<T> Page<T> {
    /// Creates a page of `limit` items from the items read: those of the page and, if there are more, one additional
    /// item.
    pub fn of(mut items: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = if more { items.last().map(cursor) } else { None };
        Self { items, next_cursor }
    }

    /// The page with each item converted.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(convert).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_given_only_when_there_is_more() {
        let page = Page::of(vec![1, 2, 3], 2, ToString::to_string);
        assert_eq!((page.items, page.next_cursor.as_deref()), (vec![1, 2], Some("2")));
        let last = Page::of(vec![1, 2], 2, ToString::to_string);
        assert_eq!((last.items, last.next_cursor), (vec![1, 2], None));
    }
}
