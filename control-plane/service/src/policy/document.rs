//! Policy documents in JSON or in TOML: parsed and compiled, with errors that name field and line.

use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use omniflow_domain::error::Error;
use omniflow_policy::key::KeyPrefix;
use omniflow_policy::payload::PayloadPolicy;
use omniflow_policy::policy::{Policy, PolicyDocument, RouteDefinition, ScopeDefinition};
use serde::Deserialize;
use serde_path_to_error::Track;
use tokio::task::spawn_blocking;
use toml::de::DeValue;

use crate::json::{parse, pointer};

/// A document, as sent. It may still be invalid as a policy.
pub struct Draft {
    document: DraftDocument,
    source: Source,
}

/// The fields of a document. A missing key prefix is the installation's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "struct SetPolicy")]
pub struct DraftDocument {
    /// The prefix of all keys.
    pub key_prefix: Option<KeyPrefix>,
    /// Whether credentials in another format may be imported keys.
    #[serde(default)]
    pub imported_keys: bool,
    /// How the arguments of calls are stored.
    pub payloads: Option<PayloadPolicy>,
    /// The scopes that a key may be given.
    pub scopes: Vec<ScopeDefinition>,
    /// The routes that keys may call.
    pub routes: Vec<RouteDefinition>,
}

/// The text of a document, for locating errors.
enum Source {
    /// In JSON.
    Json(String),
    /// In TOML.
    Toml(String),
    /// A part of another request.
    Embedded(&'static str),
}

/// The document in TOML.
pub fn to_toml(document: &PolicyDocument) -> Result<String, Error> {
    toml::to_string_pretty(document).map_err(|error| {
        tracing::error!(%error, "policy serialization to TOML failed");
        Error::internal()
    })
}

// === impl Draft ===

impl Draft {
    /// Parses a document in JSON.
    pub fn from_json(bytes: Vec<u8>) -> Result<Self, Error> {
        let document = parse(&bytes)?;
        let text = String::from_utf8(bytes).map_err(|error| Error::invalid_json(None, error.to_string()))?;
        Ok(Self { document, source: Source::Json(text) })
    }

    /// Parses a document in TOML.
    pub fn from_toml(bytes: Vec<u8>) -> Result<Self, Error> {
        let text = String::from_utf8(bytes).map_err(|error| Error::invalid_toml(None, error))?;
        let invalid = |field, error: &toml::de::Error| {
            let line = error.span().map(|span| line_at(&text, span.start));
            Error::invalid_toml(field, error.message()).at_line(line)
        };
        let parsed = toml::Deserializer::parse(&text).map_err(|error| invalid(None, &error))?;
        let mut track = Track::new();
        let document = DraftDocument::deserialize(serde_path_to_error::Deserializer::new(parsed, &mut track))
            .map_err(|error| invalid(pointer(&track.path()), &error))?;
        Ok(Self { document, source: Source::Toml(text) })
    }

    /// A document within another request, at its JSON pointer `field`.
    pub fn embedded(document: DraftDocument, field: &'static str) -> Self {
        Self { document, source: Source::Embedded(field) }
    }

    /// Compiles the document for an installation whose keys begin with `key_prefix`. Two thousand routes take
    /// milliseconds, so it is done off the threads that serve requests.
    ///
    /// Fails with `invalid_field`, at the field and line that is wrong.
    pub async fn compile(self, key_prefix: &KeyPrefix) -> Result<Policy, Error> {
        let key_prefix = key_prefix.clone();
        spawn_blocking(move || self.compile_blocking(key_prefix)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "policy compilation aborted");
            Err(Error::internal())
        })
    }

    fn compile_blocking(self, key_prefix: KeyPrefix) -> Result<Policy, Error> {
        let Self { document, source } = self;
        if let Some(other) = document.key_prefix.as_ref().filter(|stated| **stated != key_prefix) {
            let (present, other) = (key_prefix.as_str(), other.as_str());
            return Err(source.error_at(
                "/key_prefix",
                format!(
                    "keys of this installation begin with {present}; with {other}, gateways would refuse all of them: use {present}, or omit key_prefix"
                ),
            ));
        }
        Policy::compile(document.with_prefix(key_prefix))
            .map_err(|error| source.error_at(&error.pointer, error.message))
    }
}

// === impl DraftDocument ===

impl DraftDocument {
    /// The document, with `key_prefix` as the default prefix.
    fn with_prefix(self, key_prefix: KeyPrefix) -> PolicyDocument {
        let Self { key_prefix: stated, imported_keys, payloads, scopes, routes } = self;
        let payloads = payloads.unwrap_or_default();
        PolicyDocument { key_prefix: stated.unwrap_or(key_prefix), imported_keys, payloads, scopes, routes }
    }
}

// === impl Source ===

impl Source {
    /// The error about the value at `field`, a JSON pointer into the document.
    fn error_at(&self, field: &str, detail: impl ToString) -> Error {
        let (within, line) = match self {
            Self::Json(text) => ("", place_in_json(text, field).map(|place| line_at(text, place))),
            Self::Toml(text) => ("", place_in_toml(text, field).map(|place| line_at(text, place))),
            Self::Embedded(within) => (*within, None),
        };
        Error::invalid_field(format!("{within}{field}"), detail).at_line(line)
    }
}

/// The line, starting at 1, of a position in a text.
fn line_at(text: &str, place: usize) -> usize {
    text.bytes().take(place).filter(|byte| *byte == b'\n').count() + 1
}

/// Where the value at a pointer begins, or the value that encloses it if it does not exist.
fn place_in_json(text: &str, pointer: &str) -> Option<usize> {
    let parsed = jsonc_parser::parse_to_ast(text, &Default::default(), &Default::default()).ok()?;
    let mut value = parsed.value.as_ref()?;
    for segment in pointer.split('/').skip(1) {
        let next = match value {
            ast::Value::Object(object) => {
                let property = object.properties.iter().find(|property| property.name.as_str() == segment);
                property.map(|property| &property.value)
            }
            ast::Value::Array(array) => {
                segment.parse().ok().and_then(|index: usize| array.elements.get(index))
            }
            _ => None,
        };
        let Some(next) = next else { break };
        value = next;
    }
    Some(value.range().start)
}

/// The same in TOML.
fn place_in_toml(text: &str, pointer: &str) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let mut range: Range<usize> = table.span();
    let root = DeValue::Table(table.into_inner());
    let mut value = &root;
    for segment in pointer.split('/').skip(1) {
        let next = match value {
            DeValue::Table(table) => table.get(segment),
            DeValue::Array(array) => segment.parse().ok().and_then(|index: usize| array.get(index)),
            _ => None,
        };
        let Some(next) = next else { break };
        range = next.span();
        value = next.get_ref();
    }
    Some(range.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_also_where_a_field_is_missing() {
        let json = "{\n\"a\": [\n1,\n{\"b\": 2}]}";
        for (pointer, line) in [("", 1), ("/a", 2), ("/a/1", 4), ("/a/1/b", 4), ("/a/1/c", 4), ("/x", 1)] {
            let place = place_in_json(json, pointer).unwrap();
            assert_eq!(line_at(json, place), line, "{pointer}");
        }
        let toml = "x = 1\n[[a]]\nb = 2\n[[a]]\nb = [\n 3,\n 4]\n";
        for (pointer, line) in [("/x", 1), ("/a/1/b", 5), ("/a/1/b/1", 7), ("/a/0/c", 2)] {
            let place = place_in_toml(toml, pointer).unwrap();
            assert_eq!(line_at(toml, place), line, "{pointer}");
        }
    }
}
