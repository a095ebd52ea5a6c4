//! Pages of lists.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use omniflow_domain::page::{DEFAULT_LIMIT, MAX_LIMIT};

/// A page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

// === impl Page ===

impl<T> Page<T> {
    /// Makes a page of at most `limit` items. `items` has one more than that if there is a next page.
    pub fn of(mut items: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = if more { items.last().map(cursor) } else { None };
        Self { items, next_cursor }
    }

    /// Converts the items of the page.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(convert).collect(), next_cursor: self.next_cursor }
    }

    /// Converts a page item by item to JSON.
    pub fn json<U>(page: omniflow_domain::page::Page<U>, convert: impl FnMut(U) -> T) -> Self {
        Self { items: page.items.into_iter().map(convert).collect(), next_cursor: page.next_cursor }
    }
}
