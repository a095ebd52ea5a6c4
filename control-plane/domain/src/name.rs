//! Names of keys and tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Maximum length of a name in characters.
pub const MAX_NAME_LENGTH: usize = 64;

/// The name of a key or token: 1 to 64 ASCII letters, digits, `.`, `_`, `-` and inner spaces. It begins and ends with a
/// letter or digit, because it is sent in a request header. It must not have the form of an identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// The error for a text that is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name must be 1 to {MAX_NAME_LENGTH} letters, digits, spaces, '.', '_' and '-', must begin and end with a letter or digit, and must not be a UUID"
)]
pub struct InvalidName;

// === impl Name ===

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text is a name.
    pub fn is_valid(text: &str) -> bool {
        let ends = [text.bytes().next(), text.bytes().next_back()];
        text.len() <= MAX_NAME_LENGTH
            && ends.into_iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" ._-".contains(&b))
            // A key is found by its identifier or by its name, and the two must never be confused.
            && Uuid::parse_str(text).is_err()
    }

    /// The name of the token that the first start creates.
    pub fn owner() -> Self {
        Self("owner".to_owned())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if Self::is_valid(&text) { Ok(Self(text)) } else { Err(InvalidName) }
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if Self::is_valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_header_and_are_no_identifiers() {
        for right in ["a", "CI deploy", "billing-v2.eu_west", &"x".repeat(64)] {
            assert_eq!(right.parse::<Name>().as_ref().map(Name::as_str), Ok(right));
        }
        let long = "x".repeat(65);
        for wrong in [
            "",
            " ",
            " a",
            "a ",
            "-a",
            "a.",
            "a\tb",
            "a\nb",
            "naïve",
            "a,b",
            "a:b",
            &long,
            "0190163d-8694-739b-aea5-966c26f8ad91",
            "0190163d8694739baea5966c26f8ad91",
        ] {
            assert_eq!(wrong.parse::<Name>(), Err(InvalidName), "{wrong:?}");
        }
        assert_eq!(Name::owner().as_str().parse(), Ok(Name::owner()));
    }
}
