//! Method selectors of routes.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum length of a method in bytes.
const MAX_METHOD_LENGTH: usize = 32;

/// The methods that a route matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MethodSelector {
    /// GET and HEAD.
    Read,
    /// All but GET and HEAD.
    Write,
    /// All methods.
    Any,
    /// One method, in upper case.
    Exact(String),
}

/// The error for a text that is not a method selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a method selector: use an uppercase method such as GET, or read, write or any")]
pub struct InvalidMethodSelector(String);

// === impl MethodSelector ===

impl MethodSelector {
    /// The specificity with which the selector matches a method, higher is more specific; `None` if it does
    /// not match.
    pub(super) fn specificity(&self, method: &[u8]) -> Option<u8> {
        // Over HTTP/2 any token can be a method, and some servers ignore its case: `get` must not match as a
        // write.
        if !is_method(method) {
            return None;
        }
        let reads = matches!(method, b"GET" | b"HEAD");
        match self {
            Self::Exact(name) => (name.as_bytes() == method).then_some(2),
            Self::Read => reads.then_some(1),
            Self::Write => (!reads).then_some(1),
            Self::Any => Some(0),
        }
    }
}

fn is_method(bytes: &[u8]) -> bool {
    (1..=MAX_METHOD_LENGTH).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

impl FromStr for MethodSelector {
    type Err = InvalidMethodSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "any" => Ok(Self::Any),
            name if is_method(name.as_bytes()) => Ok(Self::Exact(name.to_owned())),
            other => Err(InvalidMethodSelector(other.chars().take(MAX_METHOD_LENGTH).collect())),
        }
    }
}

impl TryFrom<String> for MethodSelector {
    type Error = InvalidMethodSelector;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for MethodSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Any => "any",
            Self::Exact(name) => name,
        })
    }
}

impl From<MethodSelector> for String {
    fn from(selector: MethodSelector) -> Self {
        match selector {
            MethodSelector::Exact(name) => name,
            group => group.to_string(),
        }
    }
}
