//! Finds the one credential of a request.

use crate::denial::Denial;
use crate::key::KeyPrefix;

/// A credential from the request headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentCredential<'a> {
    /// Meant as a key: it starts with the installation's key prefix, or is in a header that only carries
    /// keys.
    Key(&'a [u8]),
    /// Something else, such as an OAuth token.
    NonKey {
        /// The bearer token, which may be an imported key. `None` for other schemes.
        token: Option<&'a [u8]>,
        /// The denial, unless the gateway lets such requests pass.
        denial: Denial,
    },
}

/// How the filter handles a request header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRole {
    /// The header carries the credential.
    Credential,
    /// The upstream would mistake it for a header of the filter, or serve another method or path than the one
    /// that was authorized. Always removed.
    Forged,
    /// Any other header.
    Other,
}

/// Returns the role of a header. Names match in any case, and every character that is neither letter nor
/// digit matches a dash, because some servers map all of them to one character.
pub fn header_role(name: &[u8]) -> HeaderRole {
    const FORGED: [&[u8]; 10] = [
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"x-original-method",
        b"x-forwarded-method",
        b"x-original-url",
        b"x-original-uri",
        b"x-rewrite-url",
        b"x-forwarded-uri",
        b"x-forwarded-prefix",
    ];
    // All of them start with one of two letters, and most other headers do not.
    if !matches!(name.first(), Some(b'a' | b'A' | b'x' | b'X')) {
        return HeaderRole::Other;
    }
    if is(name, b"authorization") || is(name, b"x-api-key") {
        HeaderRole::Credential
    } else if name.get(..11).is_some_and(|head| is(head, b"x-omniflow-"))
        || FORGED.iter().any(|forged| is(name, forged))
    {
        HeaderRole::Forged
    } else {
        HeaderRole::Other
    }
}

fn is(name: &[u8], canonical: &[u8]) -> bool {
    name.len() == canonical.len()
        && name.iter().zip(canonical).all(|(byte, expected)| {
            let byte = if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
            byte == *expected
        })
}

/// Finds the credential among all headers of a request. More than one is an error: none of them is chosen.
pub fn find_credential<'a>(
    headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    prefix: &KeyPrefix,
) -> Result<SentCredential<'a>, Denial> {
    let mut found: Option<(&[u8], &[u8])> = None;
    for (name, value) in headers {
        if header_role(name) == HeaderRole::Credential && found.replace((name, value)).is_some() {
            return Err(Denial::AmbiguousCredentials);
        }
    }
    let (name, value) = found.ok_or(Denial::MissingCredentials)?;
    if value.contains(&b',') {
        // Two headers that a proxy has joined into one.
        return Err(Denial::AmbiguousCredentials);
    }
    if !is(name, b"authorization") {
        return Ok(SentCredential::Key(value));
    }
    match split_scheme(value) {
        (scheme, Some(token)) if scheme.eq_ignore_ascii_case(b"bearer") => {
            // RFC 6750, 2.1: one b64token. With anything around it, it is neither a key nor an OAuth token.
            let well_formed = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
            match () {
                () if !well_formed => Err(Denial::MalformedKey),
                () if prefix.claims(token) => Ok(SentCredential::Key(token)),
                () => Ok(SentCredential::NonKey { token: Some(token), denial: Denial::MalformedKey }),
            }
        }
        ([], None) => Err(Denial::MissingCredentials),
        (scheme, None) if scheme.eq_ignore_ascii_case(b"bearer") || prefix.claims(scheme) => {
            Err(Denial::MalformedKey)
        }
        _ => Ok(SentCredential::NonKey { token: None, denial: Denial::MissingCredentials }),
    }
}

fn split_scheme(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = value.splitn(2, |byte| *byte == b' ');
    (parts.next().unwrap_or_default(), parts.next())
}

#[cfg(test)]
mod tests;
