//! The session cookie, and the CSRF token of the session's forms.
//!
//! The cookie contains 256 random bits; the database stores their SHA-256. It is `SameSite=Lax` instead of `Strict`, so that
//! a person who follows a shared link to a search in the audit log is signed in. Changes need a form, and forms are
//! restricted to this origin and this session.

use axum::http::{HeaderMap, HeaderValue, header};
use omniflow_policy::digest::Digest;

use omniflow_domain::error::Error;
use omniflow_service::sessions::IDENTIFIER_BYTES;

/// Name of the cookie over TLS. Browsers accept and send it only over TLS, and only to this host.
const SECURE_COOKIE: &str = "__Host-omf-session";
/// Name of the cookie without TLS, where browsers reject the other name.
const PLAIN_COOKIE: &str = "omf-session";

/// The session identifier that the browser sent. If this server uses TLS, the cookie without TLS is ignored.
pub(super) fn identifier(headers: &HeaderMap, serves_tls: bool) -> Option<&str> {
    cookie(headers, SECURE_COOKIE)
        .or_else(|| if serves_tls { None } else { cookie(headers, PLAIN_COOKIE) })
        .filter(|identifier| identifier.len() == 2 * IDENTIFIER_BYTES)
}

/// The CSRF token of a session's forms. It is a digest of the identifier, so it does not reveal it.
pub(super) fn form_token(identifier: &str) -> String {
    Digest::of(format!("a form of {identifier}").as_bytes()).to_hex()
}

/// The `Set-Cookie` value of a new session. `is_secure` states whether the browser's connection is encrypted.
pub(super) fn keep(identifier: &str, is_secure: bool) -> Result<HeaderValue, Error> {
    set_cookie(is_secure, identifier, "")
}

/// The `Set-Cookie` values that remove the cookie under both of its names.
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

/// The value of the first cookie with this name.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}
