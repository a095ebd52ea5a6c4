//! Parsing query parameters, with every error at once.

use std::fmt::Display;
use std::str::FromStr;

use omniflow_domain::time::parse_time;
use omniflow_policy::time::UnixMillis;

use crate::request_error::{HttpError, RequestError};

/// The errors of invalid query parameters, one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidQuery {
    first: HttpError,
    others: Vec<HttpError>,
}

/// Parses parameters and collects their errors.
#[derive(Debug, Default)]
pub struct Parser {
    errors: Vec<HttpError>,
}

// === impl Parser ===

impl Parser {
    /// A parameter that any text is valid for.
    pub fn text(value: Option<String>) -> Option<String> {
        value.filter(|text| !text.is_empty())
    }

    /// A parameter of a type that parses text.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, value: Option<String>) -> Option<T> {
        self.read(name, value, str::parse)
    }

    /// A time.
    pub fn time(&mut self, name: &str, value: Option<String>) -> Option<UnixMillis> {
        let wrong = || format!("{name} must be a time such as 2026-03-01T12:00:00Z");
        self.read(name, value, |text| parse_time(text).ok_or_else(wrong))
    }

    /// A parameter that `read` parses.
    pub fn read<T, E: Display>(
        &mut self,
        name: &str,
        value: Option<String>,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = Self::text(value)?;
        read(&text).map_err(|error| self.errors.push(HttpError::invalid_query(name, error))).ok()
    }

    /// The request, unless a parameter was invalid.
    ///
    /// # Errors
    ///
    /// All errors.
    pub fn finish<T>(self, request: T) -> Result<T, InvalidQuery> {
        let mut errors = self.errors.into_iter();
        match errors.next() {
            None => Ok(request),
            Some(first) => Err(InvalidQuery { first, others: errors.collect() }),
        }
    }
}

// === impl InvalidQuery ===

impl InvalidQuery {
    /// Both results, or the errors of both.
    pub fn join<A, B>(one: Result<A, Self>, other: Result<B, Self>) -> Result<(A, B), Self> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (Err(mut invalid), Err(more)) => {
                invalid.others.push(more.first);
                invalid.others.extend(more.others);
                Err(invalid)
            }
            (Err(invalid), Ok(_)) | (Ok(_), Err(invalid)) => Err(invalid),
        }
    }

    /// The errors, at least one.
    pub fn errors(&self) -> impl Iterator<Item = &HttpError> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// A problem document has one error: the first.
impl From<InvalidQuery> for RequestError {
    fn from(invalid: InvalidQuery) -> Self {
        Self::Http(invalid.first)
    }
}
