//! Display preferences, which are stored only in a cookie of the browser.

use axum::http::{HeaderMap, HeaderValue};

use super::session_cookie::cookie;
use omniflow_domain::error::Error;

const COOKIE: &str = "omf-theme";
/// Lifetime of the cookie in seconds: a year.
const MAX_AGE: u32 = 365 * 86_400;

/// Display preferences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    /// Theme.
    pub(super) theme: Theme,
}

/// Colour theme of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Theme {
    /// The theme of the operating system.
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

    /// The `Set-Cookie` value that stores them. `is_secure` states whether the browser's connection is encrypted.
    pub(super) fn set_cookie(self, is_secure: bool) -> Result<HeaderValue, Error> {
        let (theme, flag) = (self.theme.as_str(), if is_secure { "; Secure" } else { "" });
        let text = format!("{COOKIE}={theme}; Path=/; Max-Age={MAX_AGE}; HttpOnly; SameSite=Lax{flag}");
        HeaderValue::try_from(text).map_err(|_| Error::internal())
    }
}

// === impl Theme ===

impl Theme {
    /// The theme with this name, or `System` for an unknown name.
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
