//! Finds the one credential of a request, and its method.

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
        /// The denial, unless the gateway passes such requests on.
        denial: Denial,
    },
}

/// How the filter handles a request header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRole {
    /// The header carries the credential.
    Credential,
    /// The upstream may serve the method in the header instead of the request's. See [`find_method`]; always
    /// removed.
    MethodOverride,
    /// The upstream would mistake it for a header of the filter, or serve another method or path than the one
    /// that was authorized. Always removed.
    Forged,
    /// Any other header.
    Other,
}

/// Returns the role of a header. Names match in any case, and every character that is neither letter nor
/// digit matches a dash, because some servers map all of them to one character.
pub fn header_role(name: &[u8]) -> HeaderRole {
    // All of them start with one of two letters, and most other headers do not.
    if !matches!(name.first(), Some(b'a' | b'A' | b'x' | b'X')) {
        return HeaderRole::Other;
    }
    if let Some((_, role)) = known_names(name.len()).iter().find(|(known, _)| is(name, known)) {
        return *role;
    }
    let is_identity = name.get(..11).is_some_and(|head| is(head, b"x-omniflow-"));
    if is_identity { HeaderRole::Forged } else { HeaderRole::Other }
}

/// The names of this length that have a role. Few headers have to be compared with any.
const fn known_names(length: usize) -> &'static [(&'static [u8], HeaderRole)] {
    use HeaderRole::{Credential, Forged, MethodOverride};
    match length {
        9 => &[(b"x-api-key", Credential)],
        13 => &[
            (b"authorization", Credential),
            (b"x-http-method", MethodOverride),
            (b"x-script-name", Forged),
            (b"x-rewrite-url", Forged),
            (b"x-rewrite-uri", Forged),
        ],
        14 => &[(b"x-original-url", Forged), (b"x-original-uri", Forged)],
        15 => &[(b"x-forwarded-uri", Forged), (b"x-original-path", Forged)],
        16 => &[(b"x-forwarded-path", Forged)],
        17 => &[
            (b"x-method-override", MethodOverride),
            (b"x-original-method", Forged),
            (b"x-ms-original-url", Forged),
        ],
        18 => &[(b"x-forwarded-method", Forged), (b"x-forwarded-prefix", Forged)],
        20 => &[(b"x-waws-unencoded-url", Forged), (b"x-http-path-override", Forged)],
        21 => &[(b"x-envoy-original-path", Forged)],
        22 => &[(b"x-http-method-override", MethodOverride)],
        _ => &[],
    }
}

fn is(name: &[u8], canonical: &[u8]) -> bool {
    name.len() == canonical.len()
        && name.iter().zip(canonical).all(|(byte, expected)| {
            let byte = if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
            byte == *expected
        })
}

/// Whether a header is `X-API-Key`, as [`header_role`] reads names.
pub fn is_api_key(name: &[u8]) -> bool {
    is(name, b"x-api-key")
}

/// Which header carries keys, for requests with both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialHeader {
    /// Either. A request with both is refused.
    #[default]
    Any,
    /// `X-API-Key`. Beside it, `Authorization` may carry a credential that is not a key, which is passed on.
    XApiKey,
}

/// Finds the credential among all headers of a request. More than one is an error: none of them is chosen.
pub fn find_credential<'a>(
    headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    prefix: &KeyPrefix,
    counts: CredentialHeader,
) -> Result<SentCredential<'a>, Denial> {
    let (mut api_key, mut authorization): (Option<&[u8]>, Option<&[u8]>) = (None, None);
    for (name, value) in headers {
        if header_role(name) == HeaderRole::Credential {
            let found = if is_api_key(name) { &mut api_key } else { &mut authorization };
            if found.replace(value).is_some() {
                return Err(Denial::AmbiguousCredentials);
            }
        }
    }
    match (api_key, authorization) {
        (None, None) => Err(Denial::MissingCredentials),
        (None, Some(value)) => find_in_authorization(value, prefix),
        // Envoy joins several headers of one name by commas.
        (Some(value), _) if value.contains(&b',') => Err(Denial::AmbiguousCredentials),
        (Some(value), None) => Ok(SentCredential::Key(value)),
        (Some(value), Some(other)) => match find_in_authorization(other, prefix) {
            Ok(SentCredential::NonKey { .. }) if counts == CredentialHeader::XApiKey => {
                Ok(SentCredential::Key(value))
            }
            _ => Err(Denial::AmbiguousCredentials),
        },
    }
}

/// Returns the bearer token in `Authorization` that a request passes on beside a key in `X-API-Key`. It must not be a key
/// itself, which only its digest shows if another system issued the key.
pub fn find_token_beside<'a>(
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    prefix: &KeyPrefix,
    counts: CredentialHeader,
) -> Option<&'a [u8]> {
    if counts != CredentialHeader::XApiKey {
        return None;
    }
    let (mut has_api_key, mut authorization) = (false, None);
    for (name, value) in headers.filter(|(name, _)| header_role(name) == HeaderRole::Credential) {
        if is_api_key(name) {
            has_api_key = true;
        } else {
            authorization = Some(value);
        }
    }
    match find_in_authorization(authorization.filter(|_| has_api_key)?, prefix) {
        Ok(SentCredential::NonKey { token, .. }) => token,
        _ => None,
    }
}

/// What happens to requests with a header that overrides the method, such as `X-HTTP-Method-Override`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodOverride {
    /// They are denied, unless the header states the request's own method.
    #[default]
    Refuse,
    /// The method in the header becomes that of a POST request.
    Apply,
}

/// Finds the method of a request, which a header may override. Fails with [`Denial::MethodOverridden`].
///
/// The header is never just removed: that would change the meaning of the request.
pub fn find_method<'a>(
    headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    method: &'a [u8],
    handling: MethodOverride,
) -> Result<&'a [u8], Denial> {
    let mut found = method;
    for (name, value) in headers {
        // No other length has a name that overrides the method.
        let may_override = matches!(name.len(), 13 | 17 | 22);
        if !may_override
            || header_role(name) != HeaderRole::MethodOverride
            || value.eq_ignore_ascii_case(found)
        {
            continue;
        }
        // Envoy and the client have framed the message for POST. These methods frame it differently.
        let is_framed_differently = matches!(value, b"HEAD" | b"CONNECT" | b"TRACE");
        let is_method =
            !value.is_empty() && value.iter().all(u8::is_ascii_uppercase) && !is_framed_differently;
        let applies = handling == MethodOverride::Apply && method == b"POST" && found == method;
        if !applies || !is_method {
            return Err(Denial::MethodOverridden);
        }
        found = value;
    }
    Ok(found)
}

fn find_in_authorization<'a>(value: &'a [u8], prefix: &KeyPrefix) -> Result<SentCredential<'a>, Denial> {
    let (scheme, rest) = split_scheme(value);
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer");
    if value.contains(&b',') && (is_bearer || !rest.is_some_and(is_parameter_list)) {
        return Err(Denial::AmbiguousCredentials);
    }
    match rest {
        Some(token) if is_bearer => {
            // RFC 6750, 2.1: one b64token. With anything around it, it is neither a key nor an OAuth token.
            let well_formed = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
            match () {
                () if !well_formed => Err(Denial::MalformedKey),
                () if prefix.claims(token) => Ok(SentCredential::Key(token)),
                () => Ok(SentCredential::NonKey { token: Some(token), denial: Denial::MalformedKey }),
            }
        }
        None if scheme.is_empty() => Err(Denial::MissingCredentials),
        None if is_bearer || prefix.claims(scheme) => Err(Denial::MalformedKey),
        _ => Ok(SentCredential::NonKey { token: None, denial: Denial::MissingCredentials }),
    }
}

fn split_scheme(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = value.splitn(2, |byte| *byte == b' ');
    (parts.next().unwrap_or_default(), parts.next())
}

/// Whether this is a list of `name=value`, separated by commas, as in the schemes Digest and AWS4-HMAC-SHA256
/// (RFC 9110, 11.4). A second credential in the list is not: its scheme is followed by a space, or by nothing.
///
/// A quoted value may contain commas. An unquoted one may contain any other characters without a space, because
/// AWS signatures do.
fn is_parameter_list(list: &[u8]) -> bool {
    let mut rest = list;
    loop {
        let Some((name, value)) = split_once(rest, b'=') else { return false };
        let name = name.trim_ascii();
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return false;
        }
        let value = value.trim_ascii_start();
        let after = match value.strip_prefix(b"\"") {
            Some(quoted) => match after_quoted(quoted) {
                Some(after) => after,
                None => return false,
            },
            None => {
                let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t' | b',' | b'"'));
                value.get(end.unwrap_or(value.len())..).unwrap_or_default()
            }
        };
        match after.trim_ascii_start() {
            [] => return true,
            [b',', next @ ..] => rest = next,
            _ => return false,
        }
    }
}

/// The rest after a quoted string (RFC 9110, 5.6.4); the input begins after its first quotation mark. `None` if it
/// does not end.
fn after_quoted(quoted: &[u8]) -> Option<&[u8]> {
    let mut bytes = quoted.iter().enumerate();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'"' => return quoted.get(index + 1..),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    None
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// RFC 9110, 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
