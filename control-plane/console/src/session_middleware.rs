//! The middleware of every page and form. It checks the session, the role and the CSRF token, and sets the security headers.

use omniflow_domain::principal::Principal;
use std::sync::Arc;

use axum::body::{Body as HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use tokio::sync::SemaphorePermit;

use super::browser_session::BrowserSession;
use super::error_page;
use super::extract::in_time;
use super::form::Form;
use super::page::PageError;
use super::route_kind::RouteKind;
use super::sign_in_page;
use crate::state::Console;
use omniflow_api_types::problem_code::HttpErrorCode;
use omniflow_api_types::request_error::{HttpError, RequestError};
use omniflow_domain::access::Access;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_net::connection_table::Connection;

/// Size limit of a form in bytes: the largest policy, percent-encoded.
const FORM_LIMIT: usize = 3 * 1024 * 1024;
/// Size limit in bytes of a form that needs no permit without a session: a token, with the settings of a key to resubmit.
const SMALL_FORM: usize = 64 * 1024;
/// Scripts, styles and images come from this server, forms submit to it only, and no page may be framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The referrer policy is `same-origin`: with `no-referrer`, browsers send `Origin: null` with forms.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Middleware of one route.
#[derive(Clone)]
pub(super) struct SessionMiddleware {
    app: Arc<Console>,
    access: Access,
    kind: RouteKind,
}

// === impl SessionMiddleware ===

impl SessionMiddleware {
    pub(super) fn new(app: Arc<Console>, access: Access, kind: RouteKind) -> Self {
        Self { app, access, kind }
    }

    /// Checks a request and passes it to its handler.
    pub(super) async fn pass(State(middleware): State<Self>, request: Request, next: Next) -> Response {
        let (mut parts, body) = request.into_parts();
        let browser = match BrowserSession::of(&middleware.app, &parts).await {
            Ok(browser) => browser,
            Err(error) => return with_security_headers(error_page::plain(&error.into())),
        };
        let response = match middleware.admit(&browser, &mut parts, body).await {
            Ok(body) => {
                parts.extensions.insert(browser.clone());
                next.run(Request::from_parts(parts, body)).await
            }
            Err(response) => *response,
        };
        with_security_headers(error_page::explain(&browser, response, middleware.kind))
    }

    /// Performs all checks before the handler. Returns the body that the handler may read.
    async fn admit(
        &self,
        browser: &BrowserSession,
        parts: &mut Parts,
        body: HttpBody,
    ) -> Result<HttpBody, Box<Response>> {
        if self.kind == RouteKind::Form && !is_same_origin(&parts.headers, &parts.uri) {
            return Err(page_error(Error::forbidden(
                "This form was not submitted from a page of this control plane, so nothing was changed.",
            )));
        }
        if let Access::Roles(_) = self.access {
            let Some(principal) = browser.principal() else {
                return Err(Box::new(self.ask_to_sign_in(browser, &parts.headers, body).await));
            };
            self.access.check(principal.role).map_err(page_error)?;
            parts.extensions.insert::<Principal>(principal.clone());
            Connection::trust(&parts.extensions);
            if self.kind != RouteKind::Live {
                browser.extend_session(&self.app).await.map_err(page_error)?;
            }
        }
        if self.kind != RouteKind::Form {
            return Ok(body);
        }
        let limit = self.form_limit(browser, &parts.headers).map_err(page_error)?;
        let form = read(body, limit).await.map_err(page_error)?;
        if matches!(self.access, Access::Roles(_)) && !browser.has_submitted(&form) {
            // A page of an earlier session submitted it.
            return Err(Box::new(sign_in_page::confirm_resubmit(
                browser,
                browser.path(),
                &form,
                browser.csrf(),
            )));
        }
        parts.extensions.insert(form);
        Ok(HttpBody::empty())
    }

    /// The size limit of a form. Without a session, a large form needs a permit, and a form without `Content-Length` counts as
    /// a small one: browsers state the length of every form.
    ///
    /// The length is that of the header. Layers around the body, such as its timeout, hide its size hint.
    fn form_limit(&self, browser: &BrowserSession, headers: &HeaderMap) -> Result<FormLimit<'_>, Error> {
        let stated =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if browser.principal().is_some() {
            return Ok(FormLimit { bytes: FORM_LIMIT, _permit: None });
        }
        if stated.is_none_or(|length: u64| length <= SMALL_FORM as u64) {
            return Ok(FormLimit { bytes: SMALL_FORM, _permit: None });
        }
        let permit = self.app.console.large_forms.try_acquire().map_err(|_| {
            Error::new(
                ErrorCode::Busy,
                "Too many large forms are being submitted without a session. Sign in using another tab, then submit this form again.",
            )
        })?;
        Ok(FormLimit { bytes: FORM_LIMIT, _permit: Some(permit) })
    }

    async fn ask_to_sign_in(
        &self,
        browser: &BrowserSession,
        headers: &HeaderMap,
        body: HttpBody,
    ) -> Response {
        match self.kind {
            RouteKind::Live => StatusCode::UNAUTHORIZED.into_response(),
            RouteKind::Page => {
                Redirect::to(&sign_in_page::path_to(browser.target(), browser.had_session())).into_response()
            }
            RouteKind::Form => {
                let limit = match self.form_limit(browser, headers) {
                    Ok(limit) => limit,
                    Err(error) => return *page_error(error),
                };
                match read(body, limit).await {
                    Ok(form) => sign_in_page::sign_in_before(browser, &form),
                    Err(error) => *page_error(error),
                }
            }
        }
    }
}

/// The size limit of a form, with its permit.
struct FormLimit<'a> {
    bytes: usize,
    /// Released when the form is read.
    _permit: Option<SemaphorePermit<'a>>,
}

fn page_error(error: impl Into<RequestError>) -> Box<Response> {
    Box::new(PageError::from(error).into_response())
}

/// Adds the security headers of every page.
pub(super) fn with_security_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Reads a form.
async fn read(body: HttpBody, limit: FormLimit<'_>) -> Result<Form, HttpError> {
    let bytes = in_time(to_bytes(body, limit.bytes)).await?.map_err(|_| {
        HttpError::new(HttpErrorCode::BodyTooLarge, "The form is too large or was not received completely.")
    })?;
    Form::parse(&bytes)
        .ok_or_else(|| HttpError::new(HttpErrorCode::UnsupportedMediaType, "The request body is not a form."))
}

/// Whether the browser states that a page of this origin sent the request.
///
/// Scripts cannot set `Sec-Fetch-Site`. Browsers do not send it to a remote server without TLS; then `Origin`, which all
/// browsers send with a POST, must name the requested host.
fn is_same_origin(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    match (sites.next(), sites.next()) {
        (Some(site), None) => return site == "same-origin",
        (Some(_), Some(_)) => return false,
        (None, _) => {}
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next().and_then(|origin| origin.to_str().ok()), origins.next())
    else {
        return false;
    };
    let Some((_, origin)) = origin.split_once("://") else { return false };
    // In HTTP/2 the host is in the request target.
    let host = uri
        .authority()
        .map(Authority::as_str)
        .or_else(|| headers.get(header::HOST).and_then(|host| host.to_str().ok()));
    host.is_some_and(|host| host.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_other_origins_are_refused() {
        for (headers, expected) in [
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "same-site"), ("origin", "http://keys.example")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
            (vec![("host", "keys.example:8080"), ("origin", "http://keys.example:8080")], true),
            (vec![("host", "keys.example"), ("origin", "https://KEYS.example")], true),
            (vec![("host", "keys.example:8080"), ("origin", "http://keys.example")], false),
            (vec![("host", "keys.example"), ("origin", "http://evil.example")], false),
            (vec![("host", "keys.example"), ("origin", "null")], false),
            (vec![("host", "keys.example"), ("origin", "")], false),
            (vec![("origin", "http://keys.example")], false),
            (vec![("host", "keys.example")], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_same_origin(&map, &Uri::from_static("/keys")), expected, "{headers:?}");
        }
    }
}
