//! The sign-in page, the resubmission page, and the paths to them and back.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::browser_session::BrowserSession;
use super::form::Form;
use super::layout::Layout;
use super::page::Page;

/// Path of the sign-in page.
pub(super) const PATH: &str = "/sign-in";

/// The sign-in page.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignInPage {
    /// Layout.
    pub(super) layout: Layout,
    /// Target after sign-in.
    pub(super) to: String,
    /// A form submitted after the end of its session, to be resubmitted after sign-in. It may have no fields.
    pub(super) carried: Option<String>,
    /// Reason for asking.
    pub(super) note: Option<&'static str>,
    /// Reason for the rejection of the last token.
    pub(super) error: Option<String>,
}

#[derive(Template)]
#[template(path = "resubmit.html")]
struct ResubmitPage<'a> {
    layout: Layout,
    path: &'a str,
    csrf: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

/// The path of the sign-in page that continues to `target`.
pub(super) fn path_to(target: &str, had_session: bool) -> String {
    let why = if had_session { Some(("why", "ended")) } else { None };
    let to = Some(("to", target)).filter(|(_, target)| *target != "/");
    let query =
        serde_urlencoded::to_string(to.into_iter().chain(why).collect::<Vec<_>>()).unwrap_or_default();
    if query.is_empty() { PATH.to_owned() } else { format!("{PATH}?{query}") }
}

/// The path if it is local to this server, `/` otherwise. Browsers interpret `//host` and `/\host` as other servers, and
/// ignore control characters.
pub(super) fn local_path(text: &str) -> &str {
    let is_local = text.starts_with('/')
        && !text.starts_with("//")
        && !text.starts_with(PATH)
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local { text } else { "/" }
}

/// The sign-in page for a form that was submitted after the end of its session. The input is kept.
pub(super) fn sign_in_before(browser: &BrowserSession, form: &Form) -> Response {
    let page = SignInPage {
        layout: browser.layout("Sign in"),
        to: browser.path().to_owned(),
        carried: Some(form.encoded()),
        note: Some("Your session has ended. Sign in again to continue. Your input is kept."),
        error: None,
    };
    (StatusCode::UNAUTHORIZED, Page(page)).into_response()
}

/// The page that asks whether to resubmit a form with the CSRF token of the current session.
pub(super) fn confirm_resubmit(browser: &BrowserSession, path: &str, form: &Form, csrf: &str) -> Response {
    let fields = form.returnable();
    Page(ResubmitPage { layout: browser.layout("Resubmit this form?"), path, csrf, fields }).into_response()
}
