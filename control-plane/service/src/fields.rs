//! The fields that several requests have, each checked in one place.

use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::{InvalidRateLimit, RateLimit};
use omniflow_policy::policy::Policy;
use omniflow_policy::scope::{Scope, ScopeSet};
use omniflow_policy::time::UnixMillis;

use omniflow_domain::error::Error;
use omniflow_domain::key::{MAX_DESCRIPTION_LENGTH, MAX_HINT_LENGTH, Overlap};
use omniflow_domain::name::Name;
use omniflow_domain::time::parse_time;

/// A name of a key or token.
pub fn name(text: &str) -> Result<Name, Error> {
    text.parse().map_err(|error| Error::invalid_field("/name", error))
}

/// `live` or `test`.
pub(crate) fn environment(text: &str) -> Result<Environment, Error> {
    text.parse().map_err(|error| Error::invalid_field("/environment", error))
}

/// The SHA-256 of a secret that another system has issued.
pub(crate) fn digest(text: Option<&str>) -> Result<Option<Digest>, Error> {
    let detail = "a digest is the SHA-256 of the whole key in 64 hexadecimal digits: printf %s \"$KEY\" | openssl dgst -sha256";
    let read = |text| Digest::from_hex(text).map_err(|_| Error::invalid_field("/digest", detail));
    text.map(read).transpose()
}

/// Characters by which a person tells a secret from others.
pub(crate) fn hint(text: Option<&str>) -> Result<String, Error> {
    let text = text.unwrap_or_default();
    if text.len() <= MAX_HINT_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let detail = format!(
        "a hint is at most {MAX_HINT_LENGTH} characters of the key, such as the last ones: more would give it away"
    );
    Err(Error::invalid_field("/hint", detail))
}

/// Scopes, each of which the policy must define.
pub(crate) fn scopes(texts: &[String], policy: &Policy) -> Result<ScopeSet, Error> {
    let mut scopes = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let refuse = |detail: String| Error::invalid_field(format!("/scopes/{index}"), detail);
        let scope: Scope = text.parse().map_err(|error| refuse(format!("{error}")))?;
        if !policy.defines(&scope) {
            let known: Vec<&str> = policy.document().scopes.iter().map(|scope| scope.name.as_str()).collect();
            return Err(refuse(format!("the policy has no scope {scope}; it has {}", known.join(", "))));
        }
        scopes.push(scope);
    }
    ScopeSet::new(scopes).map_err(|error| Error::invalid_field("/scopes", error))
}

/// Limits: the default where none are stated, and the default with another burst where only that is stated.
pub fn rate_limit(stated: Option<RateLimit>) -> Result<RateLimit, Error> {
    let limit = match stated {
        None => RateLimit::default(),
        Some(RateLimit { per_minute: None, per_hour: None, burst: burst @ Some(_) }) => {
            RateLimit { burst, ..RateLimit::default() }
        }
        Some(limit) => limit,
    };
    match limit.validate() {
        Ok(()) => Ok(limit),
        Err(error @ InvalidRateLimit::Unlimited) => Err(Error::invalid_field("/rate_limit", error)),
        Err(error @ InvalidRateLimit::OutOfRange { field, .. }) => {
            Err(Error::invalid_field(format!("/rate_limit/{field}"), error))
        }
    }
}

/// Networks, none for any address.
pub(crate) fn ip_allowlist(texts: Option<Vec<String>>) -> Result<Allowlist, Error> {
    let texts = texts.unwrap_or_default();
    for (index, text) in texts.iter().enumerate() {
        Allowlist::parse([text.as_str()])
            .map_err(|error| Error::invalid_field(format!("/ip_allowlist/{index}"), error))?;
    }
    Allowlist::parse(texts.iter().map(String::as_str))
        .map_err(|error| Error::invalid_field("/ip_allowlist", error))
}

/// An end in the future.
pub(crate) fn expires_at(text: Option<String>, now: UnixMillis) -> Result<Option<UnixMillis>, Error> {
    let Some(text) = text else { return Ok(None) };
    let refuse = |detail: &str| Error::invalid_field("/expires_at", detail);
    let time =
        parse_time(&text).ok_or_else(|| refuse("expires_at is a time such as 2027-01-31T00:00:00Z"))?;
    if time <= now {
        return Err(refuse("expires_at has passed; to end something at once, revoke it"));
    }
    Ok(Some(time))
}

/// How long older versions of a key are still accepted after a rotation.
pub(crate) fn overlap(text: Option<String>) -> Result<Overlap, Error> {
    let read = |text: String| text.parse().map_err(|error| Error::invalid_field("/overlap", error));
    text.map_or_else(|| Ok(Overlap::default()), read)
}

/// Words about a key; empty ones are none.
pub(crate) fn description(text: Option<String>) -> Result<Option<String>, Error> {
    let text = text.filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.len() > MAX_DESCRIPTION_LENGTH) {
        let detail = format!("a description has at most {MAX_DESCRIPTION_LENGTH} bytes");
        return Err(Error::invalid_field("/description", detail));
    }
    Ok(text)
}
