//! The browser session of a request.

use omniflow_domain::principal::Principal;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, header};
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;

use super::form::{CSRF, Form};
use super::layout::Layout;
use super::page::PageError;
use super::preferences::Preferences;
use super::session_cookie;
use crate::state::Console;
use omniflow_domain::error::Error;
use omniflow_domain::session::Session;
use omniflow_service::sessions::SignedIn;

/// The browser session of a request. The session middleware inserts it into the request; handlers extract it.
#[derive(Clone)]
pub(super) struct BrowserSession {
    signed_in: Option<SignedInBrowser>,
    had_session: bool,
    preferences: Preferences,
    path: String,
    target: String,
    is_reloadable: bool,
    secure: bool,
    peer: Option<IpAddr>,
    now: UnixMillis,
}

/// A valid session with the CSRF token of its forms.
#[derive(Clone)]
struct SignedInBrowser {
    signed_in: SignedIn,
    csrf: String,
}

// === impl BrowserSession ===

impl BrowserSession {
    /// Reads the session of a request.
    pub(super) async fn of(app: &Console, parts: &Parts) -> Result<Self, Error> {
        let serves_tls = app.console.serves_tls;
        let secure = serves_tls || is_https_origin(&parts.headers);
        let identifier = session_cookie::identifier(&parts.headers, serves_tls);
        let signed_in = match identifier {
            Some(identifier) => app
                .sessions
                .find(identifier)
                .await?
                .map(|signed_in| SignedInBrowser { signed_in, csrf: session_cookie::form_token(identifier) }),
            None => None,
        };
        Ok(Self {
            had_session: identifier.is_some() && signed_in.is_none(),
            signed_in,
            preferences: Preferences::of(&parts.headers),
            path: parts.uri.path().to_owned(),
            target: parts.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned(),
            is_reloadable: parts.method.is_safe(),
            secure,
            peer: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip()),
            now: app.now(),
        })
    }

    /// The signed-in principal.
    pub(super) fn principal(&self) -> Option<&Principal> {
        self.signed_in.as_ref().map(|browser| &browser.signed_in.principal)
    }

    /// The session, if there is one.
    pub(super) fn session(&self) -> Option<&Session> {
        self.signed_in.as_ref().map(|browser| &browser.signed_in.session)
    }

    /// Whether the browser sent the cookie of an ended session.
    pub(super) fn had_session(&self) -> bool {
        self.had_session
    }

    /// The CSRF token of the session's forms; empty without a session.
    pub(super) fn csrf(&self) -> &str {
        self.signed_in.as_ref().map_or("", |browser| &browser.csrf)
    }

    /// Path of the request.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Path and query of the request.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Whether the browser's connection is encrypted, so that cookies can be marked `Secure`.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// IP address of the connection's peer.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Time of the request.
    pub(super) fn now(&self) -> UnixMillis {
        self.now
    }

    /// Whether a page of this session submitted the form.
    pub(super) fn has_submitted(&self, form: &Form) -> bool {
        // Comparing digests makes the duration independent of the token.
        self.signed_in.as_ref().is_some_and(|browser| {
            Digest::of(form.text(CSRF).as_bytes()) == Digest::of(browser.csrf.as_bytes())
        })
    }

    /// The layout of a page with this title.
    pub(super) fn layout(&self, title: impl Into<String>) -> Layout {
        Layout::new(
            title.into(),
            self.principal(),
            self.csrf(),
            &self.path,
            &self.target,
            self.preferences,
            self.is_reloadable,
        )
    }

    /// Restarts the idle timeout of the session.
    pub(super) async fn extend_session(&self, app: &Console) -> Result<(), Error> {
        match self.session() {
            Some(session) => app.sessions.extend(session).await,
            None => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for BrowserSession {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Only the session middleware inserts it.
        Ok(parts.extensions.get::<Self>().cloned().ok_or_else(Error::internal)?)
    }
}

/// Whether the `Origin` header states HTTPS, which a proxy in between terminates.
fn is_https_origin(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}
