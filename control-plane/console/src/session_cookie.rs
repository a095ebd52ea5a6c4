//! The cookie that holds the identifier of a session, and the token that the session's forms carry.
//!
//! The cookie has 256 random bits and nothing else; the database has their SHA-256. `SameSite=Lax`, and not `Strict`:
//! searches in the audit log are addresses that are made to be sent to others, and with `Strict` who follows one from a
//! message is not signed in. What changes anything is a form, and forms are held to this origin and this session.

use axum::http::{HeaderMap, HeaderValue, header};
use omniflow_policy::digest::Digest;

use omniflow_domain::error::Error;
use omniflow_service::sessions::IDENTIFIER_BYTES;

/// The cookie over TLS: the browser takes and sends it over TLS only, and only to this very host.
const SECURE_COOKIE: &str = "__Host-omf-session";
/// The cookie without TLS, where browsers refuse the other.
const PLAIN_COOKIE: &str = "omf-session";

/// The identifier that the browser has sent. Where this server speaks TLS, a cookie that came without is none.
pub(super) fn identifier(headers: &HeaderMap, serves_tls: bool) -> Option<&str> {
    cookie(headers, SECURE_COOKIE)
        .or_else(|| if serves_tls { None } else { cookie(headers, PLAIN_COOKIE) })
        .filter(|identifier| identifier.len() == 2 * IDENTIFIER_BYTES)
}

/// The token that the forms of a session carry. It is derived from the identifier, which cannot be derived from it.
pub(super) fn form_token(identifier: &str) -> String {
    Digest::of(format!("a form of {identifier}").as_bytes()).to_hex()
}

/// The cookie of a session that has started. `is_secure` is whether the browser's connection is encrypted.
pub(super) fn keep(identifier: &str, is_secure: bool) -> Result<HeaderValue, Error> {
    set_cookie(is_secure, identifier, "")
}

/// Removes the cookie from the browser, under both of its names.
pub(super) fn forget(is_secure: bool) -> Result<Vec<HeaderValue>, Error> {
    let plain = set_cookie(false, "", "; Max-Age=0")?;
    if is_secure { Ok(vec![set_cookie(true, "", "; Max-Age=0")?, plain]) } else { Ok(vec![plain]) }
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
