//! How a reader wants pages to look: light or dark. It is kept in the browser, for it concerns nobody else.

use axum::http::{HeaderMap, HeaderValue};

use super::session_cookie::cookie;
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

// === impl Preferences ===

impl Preferences {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self { theme: Theme::of(cookie(headers, COOKIE).unwrap_or_default()) }
    }

    /// The cookie that keeps them in the browser. `is_secure` is whether the browser's connection is encrypted.
    pub(super) fn set_cookie(self, is_secure: bool) -> Result<HeaderValue, Error> {
        let (theme, flag) = (self.theme.as_str(), if is_secure { "; Secure" } else { "" });
        let text = format!("{COOKIE}={theme}; Path=/; Max-Age={KEPT}; HttpOnly; SameSite=Lax{flag}");
        HeaderValue::try_from(text).map_err(|_| Error::internal())
    }
}

// === impl Theme ===

impl Theme {
    /// The theme with this name; that of the system for any other.
    pub(super) fn of(text: &str) -> Self {
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
