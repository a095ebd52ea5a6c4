//! Lists in pieces.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use omniflow_domain::page::{DEFAULT_LIMIT, MAX_LIMIT};

/// A page of a list. `next_cursor` asks for the next one; it is null on the last page.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// What to send as `cursor` to get the items that follow.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

// === impl Page ===

impl<T> Page<T> {
    /// Makes a page of `limit` items out of what was read: the page and, if there is more, one item.
    pub fn of(mut items: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = if more { items.last().map(cursor) } else { None };
        Self { items, next_cursor }
    }

    /// The same page of other items.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(convert).collect(), next_cursor: self.next_cursor }
    }

    /// The JSON of a page, item by item.
    pub fn json<U>(page: omniflow_domain::page::Page<U>, convert: impl FnMut(U) -> T) -> Self {
        Self { items: page.items.into_iter().map(convert).collect(), next_cursor: page.next_cursor }
    }
}
