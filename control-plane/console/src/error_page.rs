//! Error pages.

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::browser_session::BrowserSession;
use super::layout::Layout;
use super::page::{Page, error_status};
use super::route_kind::RouteKind;
use super::wording;
use omniflow_api_types::request_error::RequestError;
use omniflow_domain::error::ErrorCode;

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    layout: Layout,
    status: u16,
    text: &'a str,
    code: &'a str,
}

/// An error as plain text, for when the session cannot be read and no layout can be rendered.
pub(super) fn plain(error: &RequestError) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (error_status(error.code()), headers, wording::of_request(error)).into_response()
}

/// The response of a handler, with an error page in place of an error.
pub(super) fn explain(browser: &BrowserSession, response: Response, kind: RouteKind) -> Response {
    match response.extensions().get::<RequestError>() {
        Some(error) if kind == RouteKind::Live => error_status(error.code()).into_response(),
        Some(error) => page(browser, error),
        None => response,
    }
}

/// The page of an error.
fn page(browser: &BrowserSession, error: &RequestError) -> Response {
    let status = error_status(error.code());
    let title = match status {
        StatusCode::NOT_FOUND => "Page not found",
        StatusCode::FORBIDDEN => "Access denied",
        StatusCode::SERVICE_UNAVAILABLE => "Temporarily unavailable",
        status if status.is_server_error() => "Something went wrong",
        _ => "Request rejected",
    };
    let page = ErrorPage {
        layout: browser.layout(title),
        status: status.as_u16(),
        text: &wording::of_request(error),
        code: error.code().as_str(),
    };
    let mut response = (status, Page(page)).into_response();
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.code() == ErrorCode::NotReady.into() {
        // The snapshot of all keys is built within seconds: the page reloads until then.
        response.headers_mut().insert(HeaderName::from_static("refresh"), HeaderValue::from_static("2"));
    }
    response
}
