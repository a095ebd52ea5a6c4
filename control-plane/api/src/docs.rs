//! `GET /openapi.json`, and `/docs` to browse it. Pages, scripts and styles are part of the binary: a browser loads nothing
//! from other hosts.

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

/// Allows scripts from this origin only. The pages set inline styles, which require `unsafe-inline` for styles.
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

/// Redirects to the directory, because the page uses relative URLs.
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
    // No validator: the default one is on another host.
    let config =
        Config::from("/openapi.json").use_base_layout().validator_url("none").display_operation_id(true);
    let file = utoipa_swagger_ui::serve(name, Arc::new(config)).map_err(|error| {
        tracing::error!(%error, "API documentation page not rendered");
        Error::internal()
    })?;
    let file = file.ok_or_else(|| Error::not_found("The documentation has no such file. Start at /docs."))?;
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, &file.content_type), (header::CONTENT_SECURITY_POLICY, POLICY)];
    // Not copied: many clients may request megabytes at the same time and read them slowly.
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

    async fn open(server: &TestServer, path: &str) -> Answer {
        server.call(Request::get(path).body(Body::empty()).unwrap()).await
    }

    #[tokio::test]
    async fn a_large_file_is_there_once_however_many_ask_for_it() {
        let server = TestServer::new().await;
        for path in ["/docs/swagger-ui-bundle.js", "/openapi.json"] {
            let (one, other) = (open(&server, path).await.body, open(&server, path).await.body);
            assert!(one.len() > 100_000 && one.as_ptr() == other.as_ptr(), "{path}: {} bytes", one.len());
        }
    }

    #[tokio::test]
    async fn the_pages_are_open_and_ask_nobody_else() {
        let server = TestServer::new().await;
        assert_eq!(open(&server, "/docs").await.headers[header::LOCATION], "/docs/");
        let page = open(&server, "/docs/").await;
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
            let answer = open(&server, &format!("/docs/{file}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{file}");
            assert_eq!(answer.headers[header::CONTENT_TYPE], media_type, "{file}");
            assert_eq!(answer.headers[header::CONTENT_SECURITY_POLICY], POLICY);
            assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
        let script = open(&server, "/docs/swagger-initializer.js").await.body;
        let script = String::from_utf8(script.to_vec()).unwrap();
        assert!(script.contains("\"/openapi.json\"") && !script.contains("http"), "{script}");
        for missing in ["/docs/nothing", "/docs/../Cargo.toml", "/docs/%2e%2e/Cargo.toml"] {
            assert_eq!(open(&server, missing).await.problem().1, "not_found", "{missing}");
        }
    }

    #[tokio::test]
    async fn the_document_is_open_too() {
        let server = TestServer::new().await;
        let document = open(&server, "/openapi.json").await;
        assert_eq!(document.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(document.json()["openapi"], "3.1.0");
    }
}
