//! Error pages: what went wrong, and what to do.

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::browser_session::BrowserSession;
use super::layout::Layout;
use super::page::{Page, error_status};
use super::route_kind::RouteKind;
use super::wording;
use omniflow_api_types::problem;
use omniflow_domain::error::{Error, ErrorCode};

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    layout: Layout,
    status: u16,
    text: &'a str,
    code: &'a str,
}

/// An error in place of a page, where the session that would be part of the page cannot be read.
pub(super) fn plain(error: &Error) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (error_status(error.code()), headers, wording::text(error)).into_response()
}

/// The response of a handler; an error page in place of an error.
pub(super) fn explain(browser: &BrowserSession, response: Response, kind: RouteKind) -> Response {
    match response.extensions().get::<Error>() {
        Some(error) if kind == RouteKind::Live => error_status(error.code()).into_response(),
        Some(error) => page(browser, error),
        None => response,
    }
}

/// The page of an error.
fn page(browser: &BrowserSession, error: &Error) -> Response {
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
        text: &wording::text(error),
        code: error.code().as_str(),
    };
    let mut answer = (status, Page(page)).into_response();
    if let Some(seconds) = problem::retry_after(error) {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.code() == ErrorCode::NotReady {
        // The image of all keys is built in seconds: the page comes by itself then.
        answer.headers_mut().insert(HeaderName::from_static("refresh"), HeaderValue::from_static("2"));
    }
    answer
}
