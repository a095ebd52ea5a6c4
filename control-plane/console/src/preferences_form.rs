//! The form that selects the theme.

use axum::http::header;
use axum::response::{IntoResponse, Redirect};

use super::browser_session::BrowserSession;
use super::form::Form;
use super::page::PageResult;
use super::preferences::{Preferences, Theme};
use super::sign_in_page::local_path;

/// `POST /preferences`: stores the preferences in a cookie and returns to the page that sent them.
pub(super) async fn keep(browser: BrowserSession, form: Form) -> PageResult {
    let preferences = Preferences { theme: Theme::of(form.text("theme")) };
    let cookie = preferences.set_cookie(browser.is_secure())?;
    let back = local_path(form.text("to"));
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(back)).into_response())
}
