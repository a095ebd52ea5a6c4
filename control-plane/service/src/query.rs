//! Reading what requests state as text. An empty value counts as absent, as forms send it.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use omniflow_domain::error::Error;
use omniflow_domain::gateway::MAX_WAIT;
use omniflow_domain::page::{DEFAULT_LIMIT, MAX_LIMIT};
use omniflow_domain::time::{parse_duration, parse_time};
use omniflow_policy::time::UnixMillis;

/// A parameter that is present and not empty.
pub fn present(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

/// A parameter of a type that reads itself from text.
pub fn parsed<T>(name: &str, value: Option<String>) -> Result<Option<T>, Error>
where
    T: FromStr<Err: Display>,
{
    present(value)
        .map(|text| text.parse().map_err(|error: T::Err| Error::invalid_query(name, error)))
        .transpose()
}

/// An instant.
pub fn time(name: &str, value: Option<String>) -> Result<Option<UnixMillis>, Error> {
    let wrong = || Error::invalid_query(name, format!("{name} is a time such as 2026-03-01T12:00:00Z"));
    present(value).map(|text| parse_time(&text).ok_or_else(wrong)).transpose()
}

/// How long to wait for enforcement; `None` to answer at once, without asking the gateways.
pub fn wait(value: Option<String>) -> Result<Option<Duration>, Error> {
    let wrong = || {
        let detail = format!("wait is a duration of at most {}s, such as 5s or 500ms", MAX_WAIT.as_secs());
        Error::invalid_query("wait", detail)
    };
    present(value)
        .map(|text| parse_duration(&text).filter(|wait| *wait <= MAX_WAIT).ok_or_else(wrong))
        .transpose()
}

/// Which page of a list is asked for, as text.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// Maximum number of items of the page; [`DEFAULT_LIMIT`] if not stated.
    pub limit: Option<String>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

// === impl PageRequest ===

impl PageRequest {
    /// The items of the page, and the place in the list behind which it begins, as `read` reads it from the cursor
    /// of an earlier page.
    pub fn read<C>(self, read: impl FnOnce(&str) -> Option<C>) -> Result<(usize, Option<C>), Error> {
        let limit = match present(self.limit) {
            None => DEFAULT_LIMIT,
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
                    Error::invalid_query("limit", format!("limit must be an integer from 1 to {MAX_LIMIT}"))
                })?
            }
        };
        let unknown =
            || Error::invalid_query("cursor", "cursor is the next_cursor of an earlier page, unchanged");
        let cursor = present(self.cursor).map(|text| read(&text).ok_or_else(unknown)).transpose()?;
        Ok((limit, cursor))
    }
}
