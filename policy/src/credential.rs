//! The one credential that a request presents.

use crate::key::KeyPrefix;
use crate::outcome::Denial;

/// A credential found in the request's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// Means to be a key: it begins as the keys of this installation do, or stands where only keys stand.
    Key(&'a [u8]),
    /// Something else, such as an OAuth token.
    NonKey {
        /// The bearer token, which may be an imported key. No other scheme carries one.
        token: Option<&'a [u8]>,
        /// The refusal, where such calls are not let through.
        denial: Denial,
    },
}

/// What the filter does with a request header before the request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRole {
    /// Carries the credential.
    Credential,
    /// Would be taken for the filter's own word, or would make the upstream serve another method or path than the
    /// one that was decided on. Always removed.
    Forged,
    /// Anything else.
    Other,
}

/// Tells the role of a header. Names come in any case; whatever is neither letter nor digit counts as a
/// dash: some servers fold all of it into one character.
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
    // All of them begin with one of two letters, most others with none of them.
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

/// Finds the credential among all headers of a request. More than one is refused, never picked from.
pub fn present<'a>(
    headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    prefix: &KeyPrefix,
) -> Result<Presented<'a>, Denial> {
    let mut found: Option<(&[u8], &[u8])> = None;
    for (name, value) in headers {
        if header_role(name) == HeaderRole::Credential && found.replace((name, value)).is_some() {
            return Err(Denial::AmbiguousCredentials);
        }
    }
    let (name, value) = found.ok_or(Denial::MissingCredentials)?;
    if value.contains(&b',') {
        // Two headers that a proxy on the way has joined.
        return Err(Denial::AmbiguousCredentials);
    }
    if !is(name, b"authorization") {
        return Ok(Presented::Key(value));
    }
    match split_scheme(value) {
        (scheme, Some(token)) if scheme.eq_ignore_ascii_case(b"bearer") => {
            // RFC 6750, 2.1: one b64token. A credential with anything around it is no key and no OAuth token.
            let well_formed = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
            match () {
                () if !well_formed => Err(Denial::MalformedKey),
                () if prefix.claims(token) => Ok(Presented::Key(token)),
                () => Ok(Presented::NonKey { token: Some(token), denial: Denial::MalformedKey }),
            }
        }
        ([], None) => Err(Denial::MissingCredentials),
        (scheme, None) if scheme.eq_ignore_ascii_case(b"bearer") || prefix.claims(scheme) => {
            Err(Denial::MalformedKey)
        }
        _ => Ok(Presented::NonKey { token: None, denial: Denial::MissingCredentials }),
    }
}

fn split_scheme(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = value.splitn(2, |byte| *byte == b' ');
    (parts.next().unwrap_or_default(), parts.next())
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn find<'a>(headers: &[(&'a str, &'a str)]) -> Result<Presented<'a>, Denial> {
        present(headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())), &KeyPrefix::default())
    }

    #[test]
    fn one_key_in_either_header() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let value = alloc::format!("{scheme} omf_x");
            assert_eq!(find(&[("authorization", &value)]), Ok(Presented::Key(b"omf_x")));
        }
        assert_eq!(find(&[("accept", "a"), ("X-Api-Key", "omf_x")]), Ok(Presented::Key(b"omf_x")));
        assert_eq!(find(&[("x-api-key", "anything")]), Ok(Presented::Key(b"anything")));
    }

    #[test]
    fn more_than_one_is_ambiguous() {
        for headers in [
            &[("authorization", "Bearer omf_x"), ("authorization", "Bearer omf_x")][..],
            &[("authorization", "Bearer omf_x"), ("x-api-key", "omf_x")],
            &[("authorization", "Bearer oauth"), ("x-api-key", "omf_x")],
            &[("authorization", "Basic abc"), ("X_API_KEY", "omf_x")],
            &[("x-api-key", "a"), ("x-api-key", "")],
            &[("authorization", "Bearer omf_x, Bearer omf_y")],
            &[("x-api-key", "omf_x,omf_y")],
        ] {
            assert_eq!(find(headers), Err(Denial::AmbiguousCredentials), "{headers:?}");
        }
    }

    #[test]
    fn none_at_all() {
        assert_eq!(find(&[("cookie", "omf_x")]), Err(Denial::MissingCredentials));
        assert_eq!(find(&[("authorization", "")]), Err(Denial::MissingCredentials));
    }

    #[test]
    fn malformed_ones() {
        for value in
            ["Bearer", "Bearer ", "Bearer  omf_x", "Bearer omf_x ", "Bearer omf x", "Bearer\tomf_x", "omf_x"]
        {
            let expected = if value == "Bearer\tomf_x" {
                Ok(Presented::NonKey { token: None, denial: Denial::MissingCredentials })
            } else {
                Err(Denial::MalformedKey)
            };
            assert_eq!(find(&[("authorization", value)]), expected, "{value:?}");
        }
    }

    #[test]
    fn oauth_and_other_schemes() {
        let oauth = Presented::NonKey { token: Some(b"eyJ.x.y"), denial: Denial::MalformedKey };
        assert_eq!(find(&[("authorization", "Bearer eyJ.x.y")]), Ok(oauth));
        let other = Presented::NonKey { token: None, denial: Denial::MissingCredentials };
        assert_eq!(find(&[("authorization", "Basic abc=")]), Ok(other));
        assert_eq!(find(&[("authorization", "sk_live_x")]), Ok(other));
    }

    #[test]
    fn roles() {
        for name in [
            "x-omniflow-key-id",
            "X-Omniflow-Anything",
            "x_omniflow_scopes",
            "x.omniflow.key.id",
            "x+omniflow+scopes",
            "x!omniflow!key!id",
            "x+http+method+override",
            "X-HTTP-Method-Override",
            "x-original-url",
        ] {
            assert_eq!(header_role(name.as_bytes()), HeaderRole::Forged, "{name}");
        }
        for name in ["x-omniflow", "x-omniflo-key", "", "accept"] {
            assert_eq!(header_role(name.as_bytes()), HeaderRole::Other, "{name}");
        }
    }
}
