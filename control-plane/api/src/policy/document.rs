//! Policy documents in requests and responses, in JSON or TOML depending on the media type.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};

use crate::extract::{self, Body, media_type};
use crate::problem::Problem;
use omniflow_api_types::policy::SetPolicy;
use omniflow_service::policy::document::{Draft, DraftDocument};

/// Maximum length of a document in bytes: that of a chunk of an image, so that gateways receive it in one response too.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;
/// The media type of TOML.
pub(super) const TOML: &str = "application/toml";
const JSON: &str = "application/json";

/// The body of a request that is a policy document.
pub(crate) struct DraftBody(pub(super) Draft);

/// Whether a client accepts TOML and does not name JSON before it.
pub(super) fn wants_toml(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        accepted.flat_map(|value| value.split(',')).map(|one| one.split(';').next().unwrap_or(one).trim());
    types.find(|one| [TOML, JSON, "*/*"].contains(one)) == Some(TOML)
}

/// The document in the body of another request.
pub(super) fn draft_document(body: SetPolicy) -> DraftDocument {
    let SetPolicy { key_prefix, imported_keys, payloads, scopes, routes } = body;
    DraftDocument { key_prefix, imported_keys, payloads, scopes, routes }
}

// === impl DraftBody ===

impl<S: Send + Sync> FromRequest<S> for DraftBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let is_toml = media_type(request.headers()).eq_ignore_ascii_case(TOML);
        if !is_toml {
            extract::check_media_type(request.headers(), JSON)
                .map_err(|problem| problem.or_say(&format!("For TOML, use 'Content-Type: {TOML}'.")))?;
        }
        let Body(bytes) = Body::from_request(request, state).await?;
        let read = if is_toml { Draft::from_toml } else { Draft::from_json };
        Ok(Self(read(bytes.to_vec())?))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request, StatusCode};
    use serde_json::{Value, json};

    use super::*;
    use omniflow_test_server::{Answer, TestServer};

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
        server: &TestServer,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", server.owner));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        server.call(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn put_toml(server: &TestServer, text: &str) -> Answer {
        send(
            server,
            Method::PUT,
            "/v1/policy",
            &[(header::CONTENT_TYPE, "application/toml; charset=utf-8")],
            text,
        )
        .await
    }

    async fn get_as(server: &TestServer, path: &str, accept: &str) -> Answer {
        send(server, Method::GET, path, &[(header::ACCEPT, accept)], "").await
    }

    #[tokio::test]
    async fn both_forms_say_the_same() {
        let server = TestServer::new().await;
        let set = put_toml(&server, SHOP).await.expect(StatusCode::OK);
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
            let shown = get_as(&server, path, "application/toml").await;
            assert_eq!(shown.headers[header::CONTENT_TYPE], TOML);
            assert_eq!(shown.headers[header::ETAG], "\"2\"");
            let text = String::from_utf8(shown.body.to_vec()).unwrap();
            let again = put_toml(&server, &text).await.expect(StatusCode::OK);
            assert_eq!(again["version"], 2, "{path}: the same document is no new version:\n{text}");
        }
        for accept in ["application/json", "*/*", "application/json, application/toml;q=0.5", "text/html"] {
            assert_eq!(
                get_as(&server, "/v1/policy", accept).await.expect(StatusCode::OK)["version"],
                2,
                "{accept}"
            );
        }
    }

    fn line(answer: &Answer) -> (String, Value, Value) {
        (answer.problem().1, answer.json()["field"].clone(), answer.json()["line"].clone())
    }

    #[tokio::test]
    async fn errors_name_field_and_line() {
        let server = TestServer::new().await;
        let expected = |code: &str, field: Option<&str>, at: u64| (code.to_owned(), json!(field), json!(at));
        for (wrong, right, expected) in [
            (
                "path = \"shop\"",
                "path = \"/shop/orders/{id}\"",
                expected("invalid_field", Some("/routes/1/path"), 12),
            ),
            ("methods = []", "methods = [\"read\"]", expected("invalid_field", Some("/routes/0/methods"), 8)),
            (
                "methods = [\"GET\", \"get\"]",
                "methods = [\"GET\", \"HEAD\"]",
                expected("invalid_toml", Some("/routes/1/methods/1"), 13),
            ),
            ("scope = 7", "scope = \"orders:read\"", expected("invalid_toml", Some("/routes/0/scope"), 9)),
            ("[[route]]", "[[routes]]", expected("invalid_toml", Some("/route"), 6)),
            ("name = orders", "name = \"orders:read\"", expected("invalid_toml", None, 3)),
        ] {
            let text = SHOP.replacen(right, wrong, 1);
            assert_ne!(text, SHOP);
            assert_eq!(line(&put_toml(&server, &text).await), expected, "{wrong}");
        }
        let json = "{\"scopes\": [],\n \"routes\": [\n  {\"path\": \"/a\",\n   \"methods\": [\"any\"],\n   \"scope\": \"a:b\"}]}";
        let answer = send(&server, Method::PUT, "/v1/policy", &[(header::CONTENT_TYPE, JSON)], json).await;
        assert_eq!(line(&answer), expected("invalid_field", Some("/routes/0/scope"), 5));
        let answer =
            send(&server, Method::PUT, "/v1/policy", &[(header::CONTENT_TYPE, "text/plain")], SHOP).await;
        assert_eq!(answer.problem().1, "unsupported_media_type");
        assert!(answer.json()["detail"].as_str().unwrap().contains("application/toml"));
        let answer = send(&server, Method::PUT, "/v1/policy", &[(header::CONTENT_TYPE, TOML)], "\u{0}").await;
        assert_eq!(answer.problem().1, "invalid_toml");
        assert_eq!(server.app.publisher.publication.policy().unwrap().1, 1);
    }
}
