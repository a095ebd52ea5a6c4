//! Scopes, such as `contacts:read`: what a key may do.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum length of a scope in bytes.
pub const MAX_SCOPE_LENGTH: usize = 64;
/// Maximum number of scopes of a key. All of them are sent in one request header.
pub const MAX_SCOPES_PER_KEY: usize = 64;

/// A scope: `resource:action`, each part a lower-case letter followed by lower-case letters, digits, `-` and
/// `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(String);

/// Why a list of texts is not a valid set of scopes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    /// The text is not `resource:action`.
    #[error(
        "{0:?} is not a scope: use resource:action in lowercase letters, digits, '-' and '_', such as contacts:read"
    )]
    Syntax(String),
    /// There are more than [`MAX_SCOPES_PER_KEY`] scopes.
    #[error("a key can have at most {MAX_SCOPES_PER_KEY} scopes")]
    TooMany,
}

/// The scopes of a key, sorted, without duplicates. An empty set allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct ScopeSet(Vec<Scope>);

// === impl Scope ===

impl Scope {
    /// The text, `resource:action`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.len() <= MAX_SCOPE_LENGTH
            && text.split_once(':').is_some_and(|(resource, action)| is_word(resource) && is_word(action));
        if fits {
            Ok(Self(text.to_string()))
        } else {
            // Truncated, so that the error does not repeat an arbitrarily long text.
            Err(InvalidScope::Syntax(text.chars().take(MAX_SCOPE_LENGTH).collect()))
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

impl TryFrom<String> for Scope {
    type Error = InvalidScope;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0
    }
}

// === impl ScopeSet ===

impl ScopeSet {
    /// Collects scopes in any order, with or without duplicates.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, InvalidScope> {
        let mut scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.len() > MAX_SCOPES_PER_KEY { Err(InvalidScope::TooMany) } else { Ok(Self(scopes)) }
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether the set is empty: the key may do nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The scopes, separated by spaces, as in the `x-omniflow-scopes` header.
    pub fn joined(&self) -> String {
        let mut text = String::new();
        for scope in &self.0 {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(scope.as_str());
        }
        text
    }
}

impl TryFrom<Vec<Scope>> for ScopeSet {
    type Error = InvalidScope;

    fn try_from(scopes: Vec<Scope>) -> Result<Self, Self::Error> {
        Self::new(scopes)
    }
}

impl From<ScopeSet> for Vec<Scope> {
    fn from(set: ScopeSet) -> Self {
        set.0
    }
}

/// Whether `required` is one of the scopes in `granted`, which are separated by spaces as in
/// [`ScopeSet::joined`].
pub fn grants(granted: &str, required: &Scope) -> bool {
    granted.split(' ').any(|scope| scope == required.as_str())
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn scopes_are_validated() {
        for good in ["contacts:read", "a:b", "web-hooks:manage_all", "v2:x9"] {
            assert!(good.parse::<Scope>().is_ok(), "{good}");
        }
        for bad in
            ["", "contacts", ":", "contacts:", ":read", "Contacts:read", "a:b:c", "a b:c", "*:read", "a:*"]
        {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
        assert!(alloc::format!("{}:b", "a".repeat(63)).parse::<Scope>().is_err());
    }

    #[test]
    fn an_empty_set_grants_nothing_and_scopes_match_as_a_whole() {
        let scope: Scope = "contacts:read".parse().unwrap();
        assert!(!grants("", &scope));
        assert!(!grants("contacts:readonly", &scope));
        assert!(!grants("mycontacts:read", &scope));
        assert!(grants("agents:read contacts:read", &scope));
    }

    #[test]
    fn sets_are_sorted_and_unique() {
        let set = ScopeSet::new(["b:c", "a:b", "b:c"].map(|s| s.parse().unwrap())).unwrap();
        assert_eq!(set.joined(), "a:b b:c");
    }
}
