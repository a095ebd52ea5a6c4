//! Why a request failed: it was refused before its use case, or its use case failed.

use omniflow_domain::error::{Error, ErrorCode, Facts};

use crate::problem_code::{HttpErrorCode, ProblemCode};

/// An error of a request. Only `api` and `console` turn it into a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The request was refused before its use case.
    Http(HttpError),
    /// Its use case failed.
    UseCase(Error),
}

/// A request that its endpoint or page cannot accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    code: HttpErrorCode,
    detail: String,
    field: Option<String>,
}

// === impl HttpError ===

impl HttpError {
    /// An error with this code, and a sentence that says what happened, why, and what to do.
    pub fn new(code: HttpErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None }
    }

    /// An invalid query parameter.
    pub fn invalid_query(name: &str, detail: impl ToString) -> Self {
        Self::new(HttpErrorCode::InvalidQuery, detail.to_string()).at(name)
    }

    /// The same, caused by this header or query parameter.
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The same, with one more sentence.
    pub fn or_say(self, sentence: &str) -> Self {
        Self { detail: format!("{} {sentence}", self.detail), ..self }
    }

    /// What happened, why, and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The header or query parameter that caused it.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

// === impl RequestError ===

impl RequestError {
    /// Which error it is.
    pub fn code(&self) -> ProblemCode {
        match self {
            Self::Http(error) => error.code.into(),
            Self::UseCase(error) => error.code().into(),
        }
    }

    /// The part of the request that caused it, where it is known.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Http(error) => error.field(),
            Self::UseCase(error) => error.field(),
        }
    }

    /// The line of the request that caused it, from 1, where it is known.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Http(_) => None,
            Self::UseCase(error) => error.line(),
        }
    }

    /// When the request can succeed, in seconds, where that is known: the value of the header `Retry-After`.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Http(_) => None,
            Self::UseCase(error) => retry_after(error),
        }
    }
}

/// When a use case can succeed, in seconds, where that is known.
pub fn retry_after(error: &Error) -> Option<u64> {
    match (error.facts(), error.code()) {
        (Some(Facts::RetryIn(time)), _) => {
            Some(time.as_nanos().div_ceil(1_000_000_000).try_into().unwrap_or(u64::MAX))
        }
        (_, ErrorCode::NotReady | ErrorCode::Busy) => Some(1),
        _ => None,
    }
}

impl<E: Into<Error>> From<E> for RequestError {
    fn from(error: E) -> Self {
        Self::UseCase(error.into())
    }
}

impl From<HttpError> for RequestError {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}
