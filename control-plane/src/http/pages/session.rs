//! The session of a browser: the cookie that stands for a token, and how it begins and ends.
//!
//! The cookie has 256 random bits and nothing else; the database has their SHA-256. `SameSite=Lax`, and not `Strict`:
//! searches in the audit log are addresses that are made to be sent to others, and with `Strict` who follows one from a
//! message is not signed in. What changes anything is a form, and forms are held to this origin and this session.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header};
use omniflow_policy::digest::Digest;

use super::visitor::Visitor;
use crate::service::app::App;
use omniflow_domain::error::Error;
use omniflow_domain::session::{MAX_SESSIONS, Session};
use omniflow_domain::token::{Role, Token};

/// The cookie over TLS: the browser takes and sends it over TLS only, and only to this very host.
const SECURE_COOKIE: &str = "__Host-omf-session";
/// The cookie without TLS, where browsers refuse the other.
const PLAIN_COOKIE: &str = "omf-session";
/// The random bytes of an identifier.
const IDENTIFIER_BYTES: usize = 32;

/// The identifier that the browser has sent. Where this server speaks TLS, a cookie that came without is none.
pub(super) fn identifier(headers: &HeaderMap, serves_tls: bool) -> Option<&str> {
    cookie(headers, SECURE_COOKIE)
        .or_else(|| if serves_tls { None } else { cookie(headers, PLAIN_COOKIE) })
        .filter(|identifier| identifier.len() == 2 * IDENTIFIER_BYTES)
}

/// By what the database knows an identifier.
pub(super) fn digest(identifier: &str) -> Digest {
    Digest::of(identifier.as_bytes())
}

/// What the forms of a session carry. It cannot be told without the identifier, nor the identifier from it.
pub(super) fn form_token(identifier: &str) -> String {
    Digest::of(format!("a form of {identifier}").as_bytes()).to_hex()
}

/// Whether tokens with this role are those of people.
pub(super) fn is_for_people(role: Role) -> bool {
    match role {
        Role::Owner | Role::Admin | Role::Auditor => true,
        Role::Gateway => false,
    }
}

/// A session that has begun.
pub(super) struct Begun {
    /// What the browser is told to keep.
    pub(super) cookie: HeaderValue,
    /// What its forms carry.
    pub(super) csrf: String,
}

/// Begins a session of a token; `None` if the token has just been revoked.
pub(super) async fn begin(app: &Arc<App>, visitor: &Visitor, token: &Token) -> Result<Option<Begun>, Error> {
    let now = app.now();
    let bytes = app.entropy.compose(|random| [0; IDENTIFIER_BYTES].map(|_: u8| random()))?;
    let identifier = hex::encode(bytes);
    let session = Session { digest: digest(&identifier), token_id: token.id, created_at: now, seen_at: now };
    let mut writer = app.storage.main.writer().await;
    let mut transaction = writer.begin().await?;
    transaction.purge_sessions(Session::over_since(now)).await?;
    // Whoever signs in anew has no use for what the browser had before.
    if let Some(before) = visitor.session() {
        transaction.delete_session(before.digest).await?;
    }
    if !transaction.insert_session(&session, MAX_SESSIONS).await? {
        return Ok(None);
    }
    transaction.commit().await?;
    tracing::info!(token = %token.id, name = token.name.as_str(), peer = ?visitor.peer(), "somebody signed in");
    let cookie = set_cookie(visitor.is_secure(), &identifier, "")?;
    Ok(Some(Begun { cookie, csrf: form_token(&identifier) }))
}

/// What takes the cookie away from the browser, under both of its names.
pub(super) fn forget(visitor: &Visitor) -> Result<Vec<HeaderValue>, Error> {
    let plain = set_cookie(false, "", "; Max-Age=0")?;
    if visitor.is_secure() { Ok(vec![set_cookie(true, "", "; Max-Age=0")?, plain]) } else { Ok(vec![plain]) }
}

fn set_cookie(secure: bool, identifier: &str, more: &str) -> Result<HeaderValue, Error> {
    let (name, flag) = if secure { (SECURE_COOKIE, "; Secure") } else { (PLAIN_COOKIE, "") };
    let text = format!("{name}={identifier}; Path=/; HttpOnly; SameSite=Lax{flag}{more}");
    let mut value = HeaderValue::try_from(text).map_err(|_| Error::internal())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The cookie with this name, the first if there are several.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}
