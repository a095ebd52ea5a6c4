//! Who asks for a page: the session of the browser, and how its reader wants pages to look.

use crate::http::problem::status as problem_status;
use omniflow_domain::principal::Principal;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;

use super::form::{CSRF, Form};
use super::frame::Frame;
use super::gate::Manner;
use super::preferences::Preferences;
use super::{refusal, session};
use crate::service::app::App;

use crate::http::problem::Problem;
use crate::storage::StorageError;
use omniflow_domain::error::Error;
use omniflow_domain::session::Session;

/// The reader of a page. The gate puts it into the request; a handler takes it as an argument.
#[derive(Clone)]
pub(in crate::http) struct Visitor {
    signed_in: Option<SignedIn>,
    had_session: bool,
    preferences: Preferences,
    path: String,
    target: String,
    opens: bool,
    secure: bool,
    peer: Option<IpAddr>,
    now: UnixMillis,
}

/// A session that lasts, with the token that it stands for.
#[derive(Clone)]
struct SignedIn {
    session: Session,
    principal: Principal,
    csrf: String,
}

// === impl Visitor ===

impl Visitor {
    /// Who sent this request.
    pub(super) async fn of(app: &App, parts: &Parts) -> Result<Self, Error> {
        let now = app.now();
        let secure = app.serves_tls || came_by_https(&parts.headers);
        let identifier = session::identifier(&parts.headers, app.serves_tls);
        let signed_in = match identifier {
            Some(identifier) => find(app, identifier, now).await?,
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
            now,
        })
    }

    /// The token with which the reader is signed in.
    pub(super) fn principal(&self) -> Option<&Principal> {
        self.signed_in.as_ref().map(|signed_in| &signed_in.principal)
    }

    /// The session, where there is one.
    pub(super) fn session(&self) -> Option<&Session> {
        self.signed_in.as_ref().map(|signed_in| &signed_in.session)
    }

    /// Whether the browser has sent a session that is over.
    pub(super) fn had_session(&self) -> bool {
        self.had_session
    }

    /// What the forms of the session carry; empty without one.
    pub(super) fn csrf(&self) -> &str {
        self.signed_in.as_ref().map_or("", |signed_in| &signed_in.csrf)
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
        self.signed_in.as_ref().is_some_and(|signed_in| {
            Digest::of(form.text(CSRF).as_bytes()) == Digest::of(signed_in.csrf.as_bytes())
        })
    }

    /// What stands around a page with this title.
    pub(super) fn frame(&self, title: impl Into<String>) -> Frame {
        let signed_in = self.signed_in.as_ref();
        Frame::new(
            title.into(),
            signed_in.map(|signed_in| &signed_in.principal),
            signed_in.map_or("", |signed_in| &signed_in.csrf),
            &self.path,
            &self.target,
            self.preferences,
            self.opens,
        )
    }

    /// Notes that the reader has done something, where that was not noted lately.
    pub(super) async fn note(&self, app: &App) -> Result<(), StorageError> {
        let Some(SignedIn { session, .. }) = &self.signed_in else { return Ok(()) };
        if !session.is_to_be_noted(self.now) {
            return Ok(());
        }
        let mut writer = app.storage.main.writer().await;
        let mut transaction = writer.begin().await?;
        transaction.see_session(session.digest, self.now).await?;
        transaction.commit().await
    }

    /// The answer; where it is a refusal, a page that tells it.
    pub(super) fn explain(&self, answer: Response, manner: Manner) -> Response {
        match answer.extensions().get::<Problem>() {
            Some(problem) if manner == Manner::Live => problem_status(problem.code()).into_response(),
            Some(problem) => refusal::page(self, problem),
            None => answer,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Only the gate puts it there.
        parts.extensions.get::<Self>().cloned().ok_or_else(Error::internal).map_err(Into::into)
    }
}

/// The session with this identifier and its token, if both are valid and the token is one for people.
async fn find(app: &App, identifier: &str, now: UnixMillis) -> Result<Option<SignedIn>, Error> {
    let session = app.storage.main.session(session::digest(identifier)).await?;
    let Some(session) = session.filter(|session| session.is_valid(now)) else { return Ok(None) };
    let token = app.storage.main.token(session.token_id).await?;
    let token = token.filter(|token| token.is_valid(now) && session::is_for_people(token.role));
    Ok(token.map(|token| SignedIn {
        session,
        principal: Principal { id: token.id, name: token.name, role: token.role },
        csrf: session::form_token(identifier),
    }))
}

/// Whether the browser says that it speaks HTTPS, with a proxy in between that takes it off.
fn came_by_https(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}
