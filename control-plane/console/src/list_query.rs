//! Query strings of pages with lists.

use std::str::FromStr;

use omniflow_api_types::parameters::{InvalidQuery, cursor};
use omniflow_domain::page::PageRequest;

/// The path with a query string of the parameters that are not empty.
pub(super) fn path_with_query<'a>(
    path: &str,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let stated: Vec<_> = parameters.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    match serde_urlencoded::to_string(stated) {
        Ok(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    }
}

/// The page of at most `limit` items that begins at a cursor, or the first page if the cursor is empty.
pub(super) fn page_request<C: FromStr>(limit: usize, at: &str) -> Result<PageRequest<C>, InvalidQuery> {
    Ok(PageRequest { limit, after: cursor(at)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parameters_are_left_out_and_others_are_encoded() {
        assert_eq!(path_with_query("/keys", [("q", "a & b"), ("sort", "")]), "/keys?q=a+%26+b");
        assert_eq!(path_with_query("/keys", [("q", "")]), "/keys");
    }
}
