//! Pointers to fields in a request's arguments: JSON pointers (RFC 6901) in which `*` matches every member or
//! element.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum length of a pointer in bytes.
pub const MAX_FIELD_LENGTH: usize = 256;
/// The name that matches every member of an object and every element of an array.
pub const ANY_NAME: &str = "*";

/// A pointer to one or more fields, such as `/card/number` or `/items/*/secret`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldPointer {
    text: String,
    tokens: Vec<String>,
}

/// The error for a text that is not a field pointer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a field pointer: use a JSON pointer of at most {MAX_FIELD_LENGTH} bytes, such as /card/number, with ~1 for a slash and ~0 for a tilde in a name, and * for every member or element"
)]
pub struct InvalidFieldPointer(String);

// === impl FieldPointer ===

impl FieldPointer {
    /// The pointer as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The unescaped names on the path to the field.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl FromStr for FieldPointer {
    type Err = InvalidFieldPointer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidFieldPointer(text.chars().take(MAX_FIELD_LENGTH).collect());
        let names = text.strip_prefix('/').filter(|_| text.len() <= MAX_FIELD_LENGTH).ok_or_else(invalid)?;
        let tokens: Option<Vec<String>> = names.split('/').map(unescape).collect();
        Ok(Self { text: text.to_owned(), tokens: tokens.ok_or_else(invalid)? })
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut name = String::new();
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        name.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(name)
}

impl TryFrom<String> for FieldPointer {
    type Error = InvalidFieldPointer;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<FieldPointer> for String {
    fn from(field: FieldPointer) -> Self {
        field.text
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn pointers_are_parsed_as_in_rfc_6901() {
        let tokens = |text: &str| text.parse::<FieldPointer>().map(|field| field.tokens);
        assert_eq!(tokens("/a/b"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(tokens("/a~1b/m~0n/~01"), Ok(vec!["a/b".to_owned(), "m~n".to_owned(), "~1".to_owned()]));
        assert_eq!(tokens("/"), Ok(vec![String::new()]));
        for wrong in ["", "a", "a/b", "/~", "/~2", "/a~/b"] {
            assert!(tokens(wrong).is_err(), "{wrong:?}");
        }
        assert!(tokens(&"/a".repeat(129)).is_err());
    }
}
