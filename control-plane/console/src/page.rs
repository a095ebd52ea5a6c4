//! What handlers of pages and forms return: a page, or an error.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use omniflow_api_types::problem;
use omniflow_domain::error::{Error, ErrorCode};

/// What the handler of a page or form gives.
pub(super) type PageResult = Result<Response, PageError>;

/// The error of a handler. The session middleware turns it into an error page.
pub(super) struct PageError(Box<Error>);

/// A page: a template that is rendered, and cannot be what it should be if that fails.
pub(super) struct Page<T>(pub(super) T);

/// The status of every response with this code.
pub(super) fn error_status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(problem::status(code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

// === impl PageError ===

impl<E: Into<Error>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut answer = error_status(self.0.code()).into_response();
        answer.extensions_mut().insert(*self.0);
        answer
    }
}

// === impl Page ===

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(html) => Html(html).into_response(),
            Err(error) => {
                tracing::error!(%error, "page rendering failed");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
                    "The control plane failed. Its log says why.",
                )
                    .into_response()
            }
        }
    }
}
