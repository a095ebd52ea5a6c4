//! Pages of lists in the query string.

use std::str::FromStr;

use omniflow_domain::page::{DEFAULT_LIMIT, MAX_LIMIT, PageRequest};
use serde::Deserialize;
use utoipa::IntoParams;

use super::query::{InvalidQuery, Parser};
use crate::schema;

/// The requested page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParameters {
    /// Maximum number of items; 100 if omitted.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
    /// `next_cursor` of the previous page. The filters must be the same.
    #[param(value_type = Option<schema::Cursor>)]
    pub cursor: Option<String>,
}

// === impl PageParameters ===

impl PageParameters {
    /// The page.
    pub fn parse<C: FromStr>(self) -> Result<PageRequest<C>, InvalidQuery> {
        let mut parser = Parser::default();
        let limit = parser.read("limit", self.limit, |text| limit(text, MAX_LIMIT));
        let after = parser.read("cursor", self.cursor, place);
        parser.finish(PageRequest { limit: limit.unwrap_or(DEFAULT_LIMIT), after })
    }
}

/// The place after which a page begins, from its cursor; `None` for the first page, whose cursor is empty.
pub fn cursor<C: FromStr>(text: &str) -> Result<Option<C>, InvalidQuery> {
    let mut parser = Parser::default();
    let after = parser.read("cursor", Some(text.to_owned()), place);
    parser.finish(after)
}

fn place<C: FromStr>(text: &str) -> Result<C, &'static str> {
    text.parse().map_err(|_| "cursor must be the next_cursor of an earlier page, unchanged")
}

/// A whole number from 1 to `max`.
pub(super) fn limit(text: &str, max: usize) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| format!("limit must be an integer from 1 to {max}"))
}
