//! Parsing of request fields that arrive as text. The `text` modules of the use cases, `api` and `console` call these
//! functions; use cases take the parsed values.

use omniflow_domain::error::Error;
use omniflow_domain::gateway_pattern::{GatewayPattern, MAX_GATEWAY_PATTERNS};
use omniflow_domain::key::Overlap;
use omniflow_domain::name::Name;
use omniflow_domain::time::parse_time;
use omniflow_domain::token::Role;
use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::scope::Scope;
use omniflow_policy::time::UnixMillis;

/// The name of a key or token.
pub fn name(text: &str) -> Result<Name, Error> {
    text.parse().map_err(|error| Error::invalid_field("/name", error))
}

/// `live` or `test`.
pub(crate) fn environment(text: &str) -> Result<Environment, Error> {
    text.parse().map_err(|error| Error::invalid_field("/environment", error))
}

/// The role of a token.
pub(crate) fn role(text: &str) -> Result<Role, Error> {
    text.parse().map_err(|error| Error::invalid_field("/role", error))
}

/// The gateways that a token is valid for, in the order of the request.
pub(crate) fn gateways(texts: &[String]) -> Result<Vec<GatewayPattern>, Error> {
    if texts.len() > MAX_GATEWAY_PATTERNS {
        let detail =
            format!("a token can list at most {MAX_GATEWAY_PATTERNS} gateways; use a pattern such as edge-*");
        return Err(Error::invalid_field("/gateways", detail));
    }
    let read = |(index, text): (usize, &String)| {
        text.parse().map_err(|error| Error::invalid_field(format!("/gateways/{index}"), error))
    };
    texts.iter().enumerate().map(read).collect()
}

/// The SHA-256 of a secret, in hexadecimal digits.
pub fn digest(text: &str) -> Result<Digest, Error> {
    let detail = "digest must be the SHA-256 of the whole key in 64 hexadecimal digits: printf %s \"$KEY\" | openssl \
                  dgst -sha256";
    Digest::from_hex(text).map_err(|_| Error::invalid_field("/digest", detail))
}

/// Scopes, in the order of the request.
pub(crate) fn scopes(texts: &[String]) -> Result<Vec<Scope>, Error> {
    let read = |(index, text): (usize, &String)| {
        text.parse::<Scope>().map_err(|error| Error::invalid_field(format!("/scopes/{index}"), error))
    };
    texts.iter().enumerate().map(read).collect()
}

/// Networks, none for any address.
pub(crate) fn ip_allowlist(texts: &[String]) -> Result<Allowlist, Error> {
    for (index, text) in texts.iter().enumerate() {
        Allowlist::parse([text.as_str()])
            .map_err(|error| Error::invalid_field(format!("/ip_allowlist/{index}"), error))?;
    }
    Allowlist::parse(texts.iter().map(String::as_str))
        .map_err(|error| Error::invalid_field("/ip_allowlist", error))
}

/// An expiry time.
pub(crate) fn expires_at(text: &str) -> Result<UnixMillis, Error> {
    let detail = "expires_at must be a time such as 2027-01-31T00:00:00Z";
    parse_time(text).ok_or_else(|| Error::invalid_field("/expires_at", detail))
}

/// How long older versions of a key are still accepted after a rotation; the default if absent.
pub fn overlap(text: Option<&str>) -> Result<Overlap, Error> {
    let read = |text: &str| text.parse().map_err(|error| Error::invalid_field("/overlap", error));
    text.map_or_else(|| Ok(Overlap::default()), read)
}

/// Rejects an expiry time in the past.
pub(crate) fn check_future(expires_at: Option<UnixMillis>, now: UnixMillis) -> Result<(), Error> {
    let detail = "expires_at is in the past: choose a later time, or revoke the key or token to end it now";
    match expires_at {
        Some(end) if end <= now => Err(Error::invalid_field("/expires_at", detail)),
        _ => Ok(()),
    }
}
