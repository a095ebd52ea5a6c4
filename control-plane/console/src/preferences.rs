//! How a reader wants pages to look: light or dark. It is kept in the browser, for it concerns nobody else.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect};

use super::browser_session::BrowserSession;
use super::error_page::PageResult;
use super::form::Form;
use super::session_cookie::cookie;
use super::sign_in::local_path;
use omniflow_domain::error::Error;

const COOKIE: &str = "omf-theme";
/// How long the browser keeps it, in seconds: a year.
const KEPT: u32 = 365 * 86_400;

/// How pages look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    /// In which colours.
    pub(super) theme: Theme,
}

/// The colours of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Theme {
    /// As the reader's system has it.
    #[default]
    System,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// `POST /preferences`: keeps them, and shows the page again from which they were sent.
pub(super) async fn keep(browser: BrowserSession, form: Form) -> PageResult {
    let theme = Theme::of(form.text("theme"));
    let flag = if browser.is_secure() { "; Secure" } else { "" };
    let text = format!("{COOKIE}={}; Path=/; Max-Age={KEPT}; HttpOnly; SameSite=Lax{flag}", theme.as_str());
    let value = HeaderValue::try_from(text).map_err(|_| Error::internal())?;
    let back = local_path(form.text("to"));
    Ok(([(header::SET_COOKIE, value)], Redirect::to(back)).into_response())
}

// === impl Preferences ===

impl Preferences {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self { theme: Theme::of(cookie(headers, COOKIE).unwrap_or_default()) }
    }
}

// === impl Theme ===

impl Theme {
    fn of(text: &str) -> Self {
        match text {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::System,
        }
    }

    /// `system`, `light` or `dark`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}
