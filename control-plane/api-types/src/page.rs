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
    /// Converts a page item by item to JSON.
    pub fn json<U>(page: omniflow_domain::page::Page<U>, convert: impl FnMut(U) -> T) -> Self {
        Self { items: page.items.into_iter().map(convert).collect(), next_cursor: page.next_cursor }
    }
}
