//! `ETag` and `If-Match`: a change applies only to the revision that the principal has read.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use serde::Serialize;

use super::entity_tag::{entity_tag, revision};
use super::problem::Problem;
use omniflow_service::precondition::Precondition;

/// The precondition in the `If-Match` header of a request.
pub(super) struct Conditional(pub(super) Precondition);

/// A response in JSON, with its revision as the `ETag`.
pub(super) fn tagged<T: Serialize>(revision: u64, body: T) -> impl IntoResponse {
    ([(header::ETAG, entity_tag(revision))], Json(body))
}

/// Tags that no revision has match none (RFC 9110, section 13.1.1).
fn precondition(headers: &HeaderMap) -> Precondition {
    if !headers.contains_key(header::IF_MATCH) {
        return Precondition::default();
    }
    let values = headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tags: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    match tags.contains(&"*") {
        true => Precondition::default(),
        false => Precondition::any_of(tags.into_iter().filter_map(revision).collect()),
    }
}

impl<S: Sync> FromRequestParts<S> for Conditional {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(precondition(&parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, Request, StatusCode, header};
    use serde_json::{Value, json};

    use omniflow_test_server::{Answer, TestServer, request};

    use super::precondition;
    use omniflow_service::precondition::Precondition;

    #[test]
    fn only_entity_tags_of_revisions_match() {
        let parse = |values: &[&str]| {
            let headers = values.iter().map(|value| (header::IF_MATCH, value.parse().unwrap()));
            precondition(&headers.collect())
        };
        assert_eq!(parse(&[]), Precondition::default());
        assert_eq!(parse(&["\"7\", *"]), Precondition::default());
        assert_eq!(parse(&["\"7\",\"8\"", "\"9\""]), Precondition::any_of(vec![7, 8, 9]));
        for none in ["", "7", "W/\"7\"", "\"07\"", "\"+7\"", "\"\"7\"\"", "\"a\""] {
            assert_eq!(parse(&[none]), Precondition::any_of(Vec::new()), "{none}");
        }
    }

    async fn send(server: &TestServer, method: Method, path: &str, tag: &str, body: Value) -> Answer {
        let mut request: Request<_> = request(method, path, &server.owner, Some(body));
        request.headers_mut().insert(header::IF_MATCH, tag.parse().unwrap());
        server.call(request).await
    }

    fn tag(answer: &Answer) -> String {
        answer.headers[header::ETAG].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn every_change_of_a_key_is_another_state() {
        let server = TestServer::new().await;
        server.key("ci").await;
        let shown = server.get("/v1/keys/ci").await;
        assert_eq!(tag(&shown), "\"1\"");
        let mut expected = 1;
        for (method, path, body) in [
            (Method::PATCH, "/v1/keys/ci", json!({"description": "a"})),
            (Method::PATCH, "/v1/keys/ci", json!({"scopes": ["contacts:write"]})),
            (Method::POST, "/v1/keys/ci/rotate", json!({})),
            (Method::POST, "/v1/keys/ci/versions/1/revoke", json!({})),
            (Method::POST, "/v1/keys/ci/revoke", json!({})),
        ] {
            let stale =
                send(&server, method.clone(), path, &format!("\"{}\"", expected + 1), body.clone()).await;
            assert_eq!(
                stale.problem(),
                (412, "version_mismatch".to_owned(), String::new()),
                "{method} {path}"
            );
            let right = send(&server, method.clone(), path, &format!("\"{expected}\""), body).await;
            assert!(right.status.is_success(), "{method} {path}: {right:?}");
            expected += 1;
            assert_eq!(tag(&right), format!("\"{expected}\""), "{method} {path}");
            assert_eq!(tag(&server.get("/v1/keys/ci").await), format!("\"{expected}\""));
        }
        let server = server.restart().await;
        assert_eq!(tag(&server.get("/v1/keys/ci").await), "\"6\"");
    }

    #[tokio::test]
    async fn of_two_changes_to_one_state_one_wins() {
        let server = TestServer::new().await;
        server.key("ci").await;
        let change = |text: &str| json!({"description": text});
        let (one, other) = tokio::join!(
            send(&server, Method::PATCH, "/v1/keys/ci", "\"1\"", change("one")),
            send(&server, Method::PATCH, "/v1/keys/ci", "\"1\"", change("other")),
        );
        let mut statuses = [one.status, other.status];
        statuses.sort();
        assert_eq!(statuses, [StatusCode::OK, StatusCode::PRECONDITION_FAILED]);
        let winner = if one.status == StatusCode::OK { "one" } else { "other" };
        assert_eq!(server.get("/v1/keys/ci").await.expect(StatusCode::OK)["description"], winner);
    }
}
