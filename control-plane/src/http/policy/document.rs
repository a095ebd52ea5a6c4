//! Policy documents as they travel, in JSON or in TOML: read, and refused with field and line.

use std::ops::Range;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use omniflow_policy::key::KeyPrefix;
use omniflow_policy::policy::{Policy, PolicyDocument};
use serde::Deserialize;
use serde_path_to_error::Track;
use tokio::task::spawn_blocking;
use toml::de::DeValue;

use crate::http::extract::{self, Body, media_type, pointer};
use crate::http::problem::Problem;
use omniflow_api_types::policy::SetPolicy;
use omniflow_domain::error::Error;

/// The most bytes of a document: as much as a chunk of an image, so that gateways take it in one answer too.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;
/// The media type of TOML.
pub(super) const TOML: &str = "application/toml";
const JSON: &str = "application/json";

/// A document as it was sent, which may still say what no policy can be.
pub(in crate::http) struct Draft {
    request: SetPolicy,
    source: Source,
}

/// The text of a document, in which places are found.
pub(super) enum Source {
    /// In JSON.
    Json(String),
    /// In TOML.
    Toml(String),
    /// A part of another request.
    Embedded(&'static str),
}

/// Whether a caller asks for TOML: it names that type, and names JSON only behind it.
pub(super) fn wants_toml(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        accepted.flat_map(|value| value.split(',')).map(|one| one.split(';').next().unwrap_or(one).trim());
    types.find(|one| [TOML, JSON, "*/*"].contains(one)) == Some(TOML)
}

/// The document in TOML.
pub(super) fn to_toml(document: &PolicyDocument) -> Result<String, Error> {
    toml::to_string_pretty(document).map_err(|error| {
        tracing::error!(%error, "a policy cannot be written as TOML");
        Error::internal()
    })
}

// === impl Draft ===

impl Draft {
    /// A document within another request, at the pointer `field` of it.
    pub(super) fn embedded(request: SetPolicy, field: &'static str) -> Self {
        Self { request, source: Source::Embedded(field) }
    }

    /// The policy that it says, if it may follow one whose keys begin with `present`. Two thousand routes take
    /// milliseconds, so it is done off the threads that serve requests.
    pub(super) async fn compile(self, present: &KeyPrefix) -> Result<Policy, Error> {
        let present = present.clone();
        spawn_blocking(move || self.compiled(&present)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a policy was not compiled");
            Err(Error::internal())
        })
    }

    fn compiled(self, present: &KeyPrefix) -> Result<Policy, Error> {
        let Self { request, source } = self;
        if let Some(other) = request.key_prefix.as_ref().filter(|stated| *stated != present) {
            let (present, other) = (present.as_str(), other.as_str());
            return Err(source.refuse(
                "/key_prefix",
                format!(
                    "keys of this installation begin with {present}, and with {other} gateways would refuse all of \
                     them: write {present} or leave it out"
                ),
            ));
        }
        Policy::compile(request.document(present.clone()))
            .map_err(|error| source.refuse(&error.pointer, error.message))
    }
}

impl<S: Send + Sync> FromRequest<S> for Draft {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let is_toml = media_type(request.headers()).eq_ignore_ascii_case(TOML);
        if !is_toml {
            extract::check_media_type(request.headers(), JSON)
                .map_err(|problem| problem.or_say(&format!("Or send TOML as 'Content-Type: {TOML}'.")))?;
        }
        let Body(bytes) = Body::from_request(request, state).await?;
        if is_toml {
            read_toml(bytes.to_vec()).map_err(Into::into)
        } else {
            read_json(bytes.to_vec()).map_err(Into::into)
        }
    }
}

/// Reads a document in JSON.
pub(in crate::http) fn read_json(bytes: Vec<u8>) -> Result<Draft, Error> {
    let request = extract::parse(&bytes)?;
    let text = String::from_utf8(bytes).map_err(|error| Error::invalid_json(None, error.to_string()))?;
    Ok(Draft { request, source: Source::Json(text) })
}

fn read_toml(bytes: Vec<u8>) -> Result<Draft, Error> {
    let text = String::from_utf8(bytes).map_err(|error| Error::invalid_toml(None, error))?;
    let refuse = |field, error: &toml::de::Error| {
        let line = error.span().map(|span| line_at(&text, span.start));
        Error::invalid_toml(field, error.message()).at_line(line)
    };
    let document = toml::Deserializer::parse(&text).map_err(|error| refuse(None, &error))?;
    let mut track = Track::new();
    let request = SetPolicy::deserialize(serde_path_to_error::Deserializer::new(document, &mut track))
        .map_err(|error| refuse(pointer(&track.path()), &error))?;
    Ok(Draft { request, source: Source::Toml(text) })
}

// === impl Source ===

impl Source {
    /// A refusal of what stands at `field`, a JSON pointer into the document.
    fn refuse(&self, field: &str, detail: impl ToString) -> Error {
        let (within, line) = match self {
            Self::Json(text) => ("", place_in_json(text, field).map(|place| line_at(text, place))),
            Self::Toml(text) => ("", place_in_toml(text, field).map(|place| line_at(text, place))),
            Self::Embedded(within) => (*within, None),
        };
        Error::invalid_field(format!("{within}{field}"), detail).at_line(line)
    }
}

/// The line, from 1, of a place in a text.
fn line_at(text: &str, place: usize) -> usize {
    text.bytes().take(place).filter(|byte| *byte == b'\n').count() + 1
}

/// Where the value at a pointer begins, or what is around it if it is not there itself.
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
    use axum::body::Body;
    use axum::http::{Method, Request, StatusCode};
    use serde_json::{Value, json};

    use super::*;
    use crate::http::testing::{Answer, Plane};

    const SHOP: &str = r#"# Orders, and nothing else.
[[scopes]]
name = "orders:read"
description = "Read orders"

[[routes]]
path = "/shop/orders"
methods = ["read"]
scope = "orders:read"

[[routes]]
path = "/shop/orders/{id}"
methods = ["GET", "HEAD"]
scope = "orders:read"
"#;

    async fn send(
        plane: &Plane,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", plane.owner));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        plane.call(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn put_toml(plane: &Plane, text: &str) -> Answer {
        send(
            plane,
            Method::PUT,
            "/v1/policy",
            &[(header::CONTENT_TYPE, "application/toml; charset=utf-8")],
            text,
        )
        .await
    }

    async fn get_as(plane: &Plane, path: &str, accept: &str) -> Answer {
        send(plane, Method::GET, path, &[(header::ACCEPT, accept)], "").await
    }

    #[tokio::test]
    async fn both_forms_say_the_same() {
        let plane = Plane::new().await;
        let set = put_toml(&plane, SHOP).await.expect(StatusCode::OK);
        assert_eq!(
            set["document"],
            json!({
                "key_prefix": "omf",
                "scopes": [{"name": "orders:read", "description": "Read orders"}],
                "routes": [
                    {"path": "/shop/orders", "methods": ["read"], "scope": "orders:read"},
                    {"path": "/shop/orders/{id}", "methods": ["GET", "HEAD"], "scope": "orders:read"},
                ],
            })
        );
        for path in ["/v1/policy", "/v1/policy/versions/2"] {
            let shown = get_as(&plane, path, "application/toml").await;
            assert_eq!(shown.headers[header::CONTENT_TYPE], TOML);
            assert_eq!(shown.headers[header::ETAG], "\"2\"");
            let text = String::from_utf8(shown.body.to_vec()).unwrap();
            let again = put_toml(&plane, &text).await.expect(StatusCode::OK);
            assert_eq!(again["version"], 2, "{path}: the same document is no new version:\n{text}");
        }
        for accept in ["application/json", "*/*", "application/json, application/toml;q=0.5", "text/html"] {
            assert_eq!(
                get_as(&plane, "/v1/policy", accept).await.expect(StatusCode::OK)["version"],
                2,
                "{accept}"
            );
        }
    }

    fn line(answer: &Answer) -> (String, Value, Value) {
        (answer.problem().1, answer.json()["field"].clone(), answer.json()["line"].clone())
    }

    #[tokio::test]
    async fn refusals_name_field_and_line() {
        let plane = Plane::new().await;
        let told = |code: &str, field: Option<&str>, at: u64| (code.to_owned(), json!(field), json!(at));
        for (wrong, right, expected) in [
            (
                "path = \"shop\"",
                "path = \"/shop/orders/{id}\"",
                told("invalid_field", Some("/routes/1/path"), 12),
            ),
            ("methods = []", "methods = [\"read\"]", told("invalid_field", Some("/routes/0/methods"), 8)),
            (
                "methods = [\"GET\", \"get\"]",
                "methods = [\"GET\", \"HEAD\"]",
                told("invalid_toml", Some("/routes/1/methods/1"), 13),
            ),
            ("scope = 7", "scope = \"orders:read\"", told("invalid_toml", Some("/routes/0/scope"), 9)),
            ("[[route]]", "[[routes]]", told("invalid_toml", Some("/route"), 6)),
            ("name = orders", "name = \"orders:read\"", told("invalid_toml", None, 3)),
        ] {
            let text = SHOP.replacen(right, wrong, 1);
            assert_ne!(text, SHOP);
            assert_eq!(line(&put_toml(&plane, &text).await), expected, "{wrong}");
        }
        let json = "{\"scopes\": [],\n \"routes\": [\n  {\"path\": \"/a\",\n   \"methods\": [\"any\"],\n   \"scope\": \"a:b\"}]}";
        let answer = send(&plane, Method::PUT, "/v1/policy", &[(header::CONTENT_TYPE, JSON)], json).await;
        assert_eq!(line(&answer), told("invalid_field", Some("/routes/0/scope"), 5));
        let answer =
            send(&plane, Method::PUT, "/v1/policy", &[(header::CONTENT_TYPE, "text/plain")], SHOP).await;
        assert_eq!(answer.problem().1, "unsupported_media_type");
        assert!(answer.json()["detail"].as_str().unwrap().contains("application/toml"));
        let answer = send(&plane, Method::PUT, "/v1/policy", &[(header::CONTENT_TYPE, TOML)], "\u{0}").await;
        assert_eq!(answer.problem().1, "invalid_toml");
        assert_eq!(plane.app.publisher.publication.policy().unwrap().1, 1);
    }

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
