//! `GET /openapi.json`, and the same to browse at `/docs`: pages, scripts and styles are part of the binary, and a
//! browser that shows them asks nobody else.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use super::access::Access;
use super::endpoint::Endpoints;
use super::extract::Segments;
use super::problem::Problem;
use super::state::Document;
use omniflow_domain::error::Error;

/// Scripts come from here only. The pages set styles at their elements, which needs `unsafe-inline` for styles.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .add_undocumented(Access::Public, routes!(document))
        .add_undocumented(Access::Public, routes!(start))
        .add_undocumented(Access::Public, routes!(index))
        .add_undocumented(Access::Public, routes!(file))
}

#[utoipa::path(get, path = "/openapi.json")]
async fn document(State(Document(document)): State<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document)
}

/// The page names its files relative to the folder.
#[utoipa::path(get, path = "/docs")]
async fn start() -> Redirect {
    Redirect::permanent("/docs/")
}

#[utoipa::path(get, path = "/docs/")]
async fn index() -> Result<Response, Problem> {
    serve("index.html")
}

#[utoipa::path(get, path = "/docs/{*file}")]
async fn file(Segments(name): Segments<String>) -> Result<Response, Problem> {
    serve(&name)
}

fn serve(name: &str) -> Result<Response, Problem> {
    // Without a validator: the usual one is elsewhere.
    let config =
        Config::from("/openapi.json").use_base_layout().validator_url("none").display_operation_id(true);
    let file = utoipa_swagger_ui::serve(name, Arc::new(config)).map_err(|error| {
        tracing::error!(%error, "a page of the documentation cannot be made");
        Error::internal()
    })?;
    let file =
        file.ok_or_else(|| Error::not_found("The documentation has no such file. It begins at /docs."))?;
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, &file.content_type), (header::CONTENT_SECURITY_POLICY, POLICY)];
    // Not copied: many may ask for megabytes at once, and read them slowly.
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    Ok((headers, bytes).into_response())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};

    use super::*;
    use omniflow_test_server::{Answer, TestServer};

    async fn open(plane: &TestServer, path: &str) -> Answer {
        plane.call(Request::get(path).body(Body::empty()).unwrap()).await
    }

    #[tokio::test]
    async fn a_large_file_is_there_once_however_many_ask_for_it() {
        let plane = TestServer::new().await;
        for path in ["/docs/swagger-ui-bundle.js", "/openapi.json"] {
            let (one, other) = (open(&plane, path).await.body, open(&plane, path).await.body);
            assert!(one.len() > 100_000 && one.as_ptr() == other.as_ptr(), "{path}: {} bytes", one.len());
        }
    }

    #[tokio::test]
    async fn the_pages_are_open_and_ask_nobody_else() {
        let plane = TestServer::new().await;
        assert_eq!(open(&plane, "/docs").await.headers[header::LOCATION], "/docs/");
        let page = open(&plane, "/docs/").await;
        let html = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(!html.contains("//") || !html.contains("http"), "{html}");
        assert!(!html.contains("onload") && !html.contains("<script>"), "nothing inline: {html}");
        for (file, media_type) in [
            ("index.html", "text/html"),
            ("index.css", "text/css"),
            ("swagger-ui.css", "text/css"),
            ("swagger-ui-bundle.js", "text/javascript"),
            ("swagger-ui-standalone-preset.js", "text/javascript"),
            ("swagger-initializer.js", "text/javascript"),
            ("favicon-32x32.png", "image/png"),
        ] {
            let answer = open(&plane, &format!("/docs/{file}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{file}");
            assert_eq!(answer.headers[header::CONTENT_TYPE], media_type, "{file}");
            assert_eq!(answer.headers[header::CONTENT_SECURITY_POLICY], POLICY);
            assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
        let script = open(&plane, "/docs/swagger-initializer.js").await.body;
        let script = String::from_utf8(script.to_vec()).unwrap();
        assert!(script.contains("\"/openapi.json\"") && !script.contains("http"), "{script}");
        for missing in ["/docs/nothing", "/docs/../Cargo.toml", "/docs/%2e%2e/Cargo.toml"] {
            assert_eq!(open(&plane, missing).await.problem().1, "not_found", "{missing}");
        }
    }

    #[tokio::test]
    async fn the_document_is_open_too() {
        let plane = TestServer::new().await;
        let document = open(&plane, "/openapi.json").await;
        assert_eq!(document.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(document.json()["openapi"], "3.1.0");
    }
}
