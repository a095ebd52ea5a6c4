//! The browser behind a request: its session, and its reader's preferences.

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

/// The browser behind a request. The session middleware puts it into the request; a handler takes it as an argument.
#[derive(Clone)]
pub(super) struct BrowserSession {
    signed_in: Option<SignedInBrowser>,
    had_session: bool,
    preferences: Preferences,
    path: String,
    target: String,
    opens: bool,
    secure: bool,
    peer: Option<IpAddr>,
    now: UnixMillis,
}

/// A valid session, with the token that its forms carry.
#[derive(Clone)]
struct SignedInBrowser {
    signed_in: SignedIn,
    csrf: String,
}

// === impl BrowserSession ===

impl BrowserSession {
    /// Who sent this request.
    pub(super) async fn of(app: &Console, parts: &Parts) -> Result<Self, Error> {
        let serves_tls = app.console.serves_tls;
        let secure = serves_tls || came_by_https(&parts.headers);
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
            opens: parts.method.is_safe(),
            secure,
            peer: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip()),
            now: app.now(),
        })
    }

    /// The token with which the reader is signed in.
    pub(super) fn principal(&self) -> Option<&Principal> {
        self.signed_in.as_ref().map(|browser| &browser.signed_in.principal)
    }

    /// The session, where there is one.
    pub(super) fn session(&self) -> Option<&Session> {
        self.signed_in.as_ref().map(|browser| &browser.signed_in.session)
    }

    /// Whether the browser has sent a session that is over.
    pub(super) fn had_session(&self) -> bool {
        self.had_session
    }

    /// What the forms of the session carry; empty without one.
    pub(super) fn csrf(&self) -> &str {
        self.signed_in.as_ref().map_or("", |browser| &browser.csrf)
    }

    /// The path that was asked for.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Path and query that were asked for.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Whether the connection of the browser is encrypted, so that cookies can be kept to such connections.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// The address from which the request came, as this server sees it.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// When the request came.
    pub(super) fn now(&self) -> UnixMillis {
        self.now
    }

    /// Whether a page of this session has sent the form.
    pub(super) fn has_sent(&self, form: &Form) -> bool {
        // Of the digests, so that the time it takes tells nothing.
        self.signed_in.as_ref().is_some_and(|browser| {
            Digest::of(form.text(CSRF).as_bytes()) == Digest::of(browser.csrf.as_bytes())
        })
    }

    /// What stands around a page with this title.
    pub(super) fn layout(&self, title: impl Into<String>) -> Layout {
        Layout::new(
            title.into(),
            self.principal(),
            self.csrf(),
            &self.path,
            &self.target,
            self.preferences,
            self.opens,
        )
    }

    /// Keeps the session from ending for idleness: its reader has made a request.
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
        // Only the session middleware puts it there.
        Ok(parts.extensions.get::<Self>().cloned().ok_or_else(Error::internal)?)
    }
}

/// Whether the browser says that it speaks HTTPS, with a proxy in between that takes it off.
fn came_by_https(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}
