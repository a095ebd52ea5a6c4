//! A page in place of the one that was asked for: what went wrong, and what to do.

use crate::http::problem::status as problem_status;
use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::form::sentence;
use super::frame::Frame;
use super::visitor::Visitor;
use crate::http::problem::Problem;
use omniflow_domain::error::{Error, ErrorCode};

/// What the handler of a page or form gives.
pub(super) type PageResult = Result<Response, Refused>;

/// A handler that cannot give its page. The gate makes a page of the problem.
pub(super) struct Refused(Box<Problem>);

/// A page: a template that is rendered, and cannot be what it should be if that fails.
pub(super) struct Page<T>(pub(super) T);

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage<'a> {
    frame: Frame,
    status: u16,
    text: &'a str,
    code: &'a str,
}

/// The page that tells a problem.
pub(super) fn page(visitor: &Visitor, problem: &Error) -> Response {
    let status = problem_status(problem.code());
    let title = match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::SERVICE_UNAVAILABLE => "One moment",
        status if status.is_server_error() => "Something failed",
        _ => "That did not work",
    };
    let page = RefusalPage {
        frame: visitor.frame(title),
        status: status.as_u16(),
        text: &sentence(problem.detail()),
        code: problem.code().as_str(),
    };
    let mut answer = (status, Page(page)).into_response();
    if let Some(seconds) = problem.retry_after() {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.code() == ErrorCode::NotReady {
        // The image of all keys is built in seconds: the page comes by itself then.
        answer.headers_mut().insert(HeaderName::from_static("refresh"), HeaderValue::from_static("2"));
    }
    answer
}

// === impl Refused ===

impl<E: Into<Problem>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut answer = problem_status(self.0.code()).into_response();
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
