//! The pages that ask for a token, and the paths that lead to them and back.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::browser_session::BrowserSession;
use super::form::Form;
use super::layout::Layout;
use super::page::Page;

/// Where pages send who is not signed in.
pub(super) const PATH: &str = "/sign-in";

/// Asks for a token.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignInPage {
    /// What is around the page.
    pub(super) layout: Layout,
    /// Where to go then.
    pub(super) to: String,
    /// A form that came after the session had ended, to be sent again then. It may have no fields.
    pub(super) carried: Option<String>,
    /// Why the reader is here.
    pub(super) note: Option<&'static str>,
    /// Why the last token was rejected.
    pub(super) error: Option<String>,
}

#[derive(Template)]
#[template(path = "send_again.html")]
struct SendAgainPage<'a> {
    layout: Layout,
    path: &'a str,
    csrf: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

/// The path that asks for a token and leads on to `target`.
pub(super) fn path_to(target: &str, had_session: bool) -> String {
    let why = if had_session { Some(("why", "ended")) } else { None };
    let to = Some(("to", target)).filter(|(_, target)| *target != "/");
    let query =
        serde_urlencoded::to_string(to.into_iter().chain(why).collect::<Vec<_>>()).unwrap_or_default();
    if query.is_empty() { PATH.to_owned() } else { format!("{PATH}?{query}") }
}

/// The path, if it is one of this server; its front page otherwise. Browsers take `//host` and `/\host` for other
/// servers, and pass over control characters.
pub(super) fn local_path(text: &str) -> &str {
    let is_local = text.starts_with('/')
        && !text.starts_with("//")
        && !text.starts_with(PATH)
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local { text } else { "/" }
}

/// Asks for a token before a form, which came after its session had ended, is sent again: nothing typed is lost.
pub(super) fn ask_before(browser: &BrowserSession, form: &Form) -> Response {
    let page = SignInPage {
        layout: browser.layout("Sign in"),
        to: browser.path().to_owned(),
        carried: Some(form.encoded()),
        note: Some("Your session has ended. Sign in again, and what you typed is still there."),
        error: None,
    };
    (StatusCode::UNAUTHORIZED, Page(page)).into_response()
}

/// Asks whether to send a form again, with the token of the session that there is now.
pub(super) fn ask_to_send_again(browser: &BrowserSession, path: &str, form: &Form, csrf: &str) -> Response {
    let fields = form.returnable();
    Page(SendAgainPage { layout: browser.layout("Send it again?"), path, csrf, fields }).into_response()
}
