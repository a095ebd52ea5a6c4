//! Error pages: what went wrong, and what to do.

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::browser_session::BrowserSession;
use super::form::sentence;
use super::layout::Layout;
use omniflow_api_types::problem;
use omniflow_domain::error::{Error, ErrorCode};

/// What the handler of a page or form gives.
pub(super) type PageResult = Result<Response, PageError>;

/// The error of a handler. The session middleware turns it into an error page.
pub(super) struct PageError(Box<Error>);

/// A page: a template that is rendered, and cannot be what it should be if that fails.
pub(super) struct Page<T>(pub(super) T);

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    layout: Layout,
    status: u16,
    text: &'a str,
    code: &'a str,
}

/// The status of every response with this code.
pub(super) fn error_status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(problem::status(code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An error in place of a page, where the session that would be part of the page cannot be read.
pub(super) fn plain(error: &Error) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (error_status(error.code()), headers, sentence(error.detail())).into_response()
}

/// The page of an error.
pub(super) fn page(browser: &BrowserSession, error: &Error) -> Response {
    let status = error_status(error.code());
    let title = match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::SERVICE_UNAVAILABLE => "One moment",
        status if status.is_server_error() => "Something failed",
        _ => "That did not work",
    };
    let page = ErrorPage {
        layout: browser.layout(title),
        status: status.as_u16(),
        text: &sentence(error.detail()),
        code: error.code().as_str(),
    };
    let mut answer = (status, Page(page)).into_response();
    if let Some(seconds) = error.retry_after() {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.code() == ErrorCode::NotReady {
        // The image of all keys is built in seconds: the page comes by itself then.
        answer.headers_mut().insert(HeaderName::from_static("refresh"), HeaderValue::from_static("2"));
    }
    answer
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
                tracing::error!(%error, "a page cannot be rendered");
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
