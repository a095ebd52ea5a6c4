//! The results of page and form handlers: a page or an error.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use omniflow_api_types::problem_code::ProblemCode;
use omniflow_api_types::request_error::RequestError;

/// Result of a page or form handler.
pub(super) type PageResult = Result<Response, PageError>;

/// Error of a handler. The session middleware converts it to an error page.
pub(super) struct PageError(Box<RequestError>);

/// A page, rendered from a template. A failure to render is a 500 response.
pub(super) struct Page<T>(pub(super) T);

/// The HTTP status of an error code.
pub(super) fn error_status(code: impl Into<ProblemCode>) -> StatusCode {
    StatusCode::from_u16(code.into().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

// === impl PageError ===

impl<E: Into<RequestError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = error_status(self.0.code()).into_response();
        response.extensions_mut().insert(*self.0);
        response
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
                    "The page could not be rendered. See the log of the control plane.",
                )
                    .into_response()
            }
        }
    }
}
