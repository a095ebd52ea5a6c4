//! Credentials other than exactly one key.

use super::{Variant, Wire, shown};
use crate::edge::Edge;
use crate::request::Request;

const FAMILY: &str = "credentials";
/// A well-formed key that was never issued.
const UNKNOWN: &str = "omf_live_abcdefghijklmnopqrstuvwxyz0123456789ABCD2BjG4p";
const OAUTH: &str = "eyJhbGciOiJub25lIn0.e30.x";

pub(super) fn variants(edge: &Edge<'_>) -> Vec<Variant> {
    let mut all = several(edge);
    all.extend(mistaken(edge));
    all.extend(elsewhere(edge));
    all
}

fn refused(edge: &Edge<'_>, case: &'static str, headers: &[(&str, Vec<u8>)]) -> Variant {
    judged(edge, case, headers).refused()
}

/// It may pass, if the result is only a call with the one key.
fn judged(edge: &Edge<'_>, case: &'static str, headers: &[(&str, Vec<u8>)]) -> Variant {
    let mut request = Request::get(edge.allowed.as_str());
    let mut name = String::new();
    for (header, value) in headers {
        name.push_str(&format!("{header}: {}; ", shown(value).replace(&edge.key, "KEY")));
        request = request.header(*header, value.clone());
    }
    Variant::new(FAMILY, case, name, Wire::Both(request))
}

/// More than one credential, in one header or in two.
fn several(edge: &Edge<'_>) -> Vec<Variant> {
    let key = edge.key.as_bytes().to_vec();
    let bearer = |token: &[u8]| [b"Bearer ", token].concat();
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("x-api-key", key.clone()),
        ("x-api-key", UNKNOWN.into()),
        ("x-api-key", Vec::new()),
        ("X-API-KEY", key.clone()),
        ("x_api_key", key.clone()),
        ("x-api_key", UNKNOWN.into()),
        ("x!api+key", UNKNOWN.into()),
        ("authorization", bearer(&key)),
        ("authorization", bearer(UNKNOWN.as_bytes())),
        ("authorization", bearer(OAUTH.as_bytes())),
        ("authorization", b"Basic YTpi".to_vec()),
        ("authorization", Vec::new()),
        ("Authorization", bearer(&key)),
        ("AUTHORIZATION", b"Negotiate x".to_vec()),
    ];
    let mut all = Vec::new();
    for one in &forms {
        for other in &forms {
            let both = [one.clone(), other.clone()];
            // Envoy joins several `authorization` headers into one before any filter runs, and nothing is left of an
            // empty one: filter and upstream see one key, without a trace of the others.
            let is_one = both.iter().all(|(name, _)| name.eq_ignore_ascii_case("authorization"))
                && both.iter().any(|(_, value)| value.is_empty())
                && both.iter().any(|(_, value)| *value == bearer(&key));
            let variant = if is_one { judged } else { refused };
            all.push(variant(edge, "two credentials", &both));
        }
    }
    for separator in [",", ", ", " , ", ",\t", ",,", ";", " ", "\t", "|", "&", "\u{0}"] {
        for other in [edge.key.as_str(), UNKNOWN, OAUTH, ""] {
            let joined = format!("{}{separator}{other}", edge.key);
            if joined.trim_matches([' ', '\t']) == edge.key {
                // White space around a value is not part of it (RFC 9110, 5.5).
                continue;
            }
            all.push(refused(edge, "joined", &[("x-api-key", joined.clone().into_bytes())]));
            all.push(refused(edge, "joined", &[("authorization", bearer(joined.as_bytes()))]));
            let turned = format!("{other}{separator}{}", edge.key);
            if turned.trim_matches([' ', '\t']) != edge.key {
                all.push(refused(edge, "joined", &[("x-api-key", turned.into_bytes())]));
            }
            let twice = format!("Bearer {}{separator}Bearer {other}", edge.key);
            all.push(refused(edge, "joined", &[("authorization", twice.into_bytes())]));
        }
    }
    all
}

/// Texts that resemble the key, and some that do not.
fn texts_for(key: &str) -> [String; 25] {
    [
        key.to_ascii_uppercase(),
        key.to_ascii_lowercase(),
        format!("\"{key}\""),
        format!("'{key}'"),
        format!("<{key}>"),
        format!("key={key}"),
        format!("Bearer {key}"),
        format!("{key}{key}"),
        format!("{key}="),
        key.replace("_live_", "_test_"),
        key.replace("_live_", "_token_"),
        key.replace('_', "-"),
        key.replace('_', "%5F"),
        omniflow_policy::digest::Digest::of(key.as_bytes()).to_hex(),
        omniflow_policy::digest::Digest::of(key.as_bytes()).to_hex().to_ascii_uppercase(),
        UNKNOWN.to_owned(),
        OAUTH.to_owned(),
        "null".to_owned(),
        "undefined".to_owned(),
        "*".to_owned(),
        "omf_live_".to_owned(),
        "omf_live_".to_owned() + &"0".repeat(46),
        String::new(),
        "k".repeat(60_000),
        "omf_live_".to_owned() + &"a".repeat(50_000),
    ]
}

/// Almost the key.
fn mistaken(edge: &Edge<'_>) -> Vec<Variant> {
    let key = edge.key.as_str();
    let mut texts: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for at in 0..key.len() {
        let mut other = key.as_bytes().to_vec();
        other[at] = if other[at] == b'x' { b'y' } else { b'x' };
        texts.push(("a wrong character", other));
        let mut other = key.as_bytes().to_vec();
        if other[at].is_ascii_alphabetic() {
            other[at] ^= 0x20;
            texts.push(("another case", other));
        }
        texts.push(("cut short", key.as_bytes()[..at].to_vec()));
        texts.push(("without its beginning", key.as_bytes()[at + 1..].to_vec()));
        texts.push(("a character too many", [&key[..at], "0", &key[at..]].concat().into_bytes()));
        let encoded = format!("{}%{:02x}{}", &key[..at], key.as_bytes()[at], &key[at + 1..]);
        texts.push(("an encoded character", encoded.into_bytes()));
    }
    for byte in 0..=u8::MAX {
        // White space around a value is not part of it, and a line ends with a line feed.
        if !matches!(byte, b'\t' | b'\n' | b'\r' | b' ') {
            texts.push(("a byte behind", [key.as_bytes(), &[byte]].concat()));
            texts.push(("a byte before", [&[byte], key.as_bytes()].concat()));
        }
    }
    for text in texts_for(key) {
        texts.push(("something else", text.into_bytes()));
    }
    let mut all = Vec::new();
    for (case, text) in texts {
        if text == edge.key.as_bytes() {
            continue;
        }
        all.push(refused(edge, case, &[("x-api-key", text.clone())]));
        // `Bearer KEY` is only valid in the other header.
        if !text.starts_with(b"Bearer ") {
            all.push(refused(edge, case, &[("authorization", [b"Bearer ", text.as_slice()].concat())]));
        }
    }
    for scheme in [
        "",
        "Bearer",
        "Bearer  ",
        "Bearer\t",
        "Bearer:",
        "Bearer=",
        "Basic ",
        "Token ",
        "ApiKey ",
        "Digest ",
        "bear ",
        "\"Bearer\" ",
    ] {
        all.push(refused(
            edge,
            "another scheme",
            &[("authorization", format!("{scheme}{key}").into_bytes())],
        ));
    }
    all.push(refused(edge, "nothing", &[]));
    for empty in ["Bearer", "Bearer ", "bearer   ", "Bearer \t", " ", ",", "Bearer ,"] {
        all.push(refused(edge, "nothing", &[("authorization", empty.as_bytes().to_vec())]));
        all.push(refused(edge, "nothing", &[("x-api-key", empty.as_bytes().to_vec())]));
    }
    all
}

/// The key in places where no key is accepted.
fn elsewhere(edge: &Edge<'_>) -> Vec<Variant> {
    let key = edge.key.as_str();
    let mut all = Vec::new();
    for name in [
        "cookie",
        "x-auth-token",
        "api-key",
        "apikey",
        "x-apikey",
        "key",
        "token",
        "proxy-authorization",
        "x-authorization",
        "x-api-key-2",
        "x-api-keys",
        "x-api--key",
        "xapi-key",
        "www-authenticate",
        "x-forwarded-authorization",
        "x-amz-security-token",
        "authorization2",
        "x-omniflow-key",
        "x-omniflow-key-id",
        "sec-websocket-protocol",
        "x-original-authorization",
        "from",
        "user-agent",
        "referer",
        "x-goog-api-key",
    ] {
        for value in [key.to_owned(), format!("Bearer {key}"), format!("key={key}; x-api-key={key}")] {
            all.push(refused(edge, "another header", &[(name, value.into_bytes())]));
        }
    }
    for query in ["api_key", "apikey", "key", "access_token", "token", "x-api-key", "authorization"] {
        let target = format!("{}?{query}={key}", edge.allowed);
        let name = format!("?{query}=KEY");
        all.push(Variant::new(FAMILY, "in the query", name, Wire::Both(Request::get(target))).refused());
    }
    let target = format!("{}/{key}", edge.allowed);
    all.push(Variant::new(FAMILY, "in the path", "/KEY", Wire::Both(Request::get(target))).refused());
    let body = Request::get(edge.allowed.as_str()).body(format!("x-api-key={key}"));
    all.push(Variant::new(FAMILY, "in the body", "x-api-key=KEY", Wire::Both(body)).refused());
    for name in ["x-api-key", "authorization"] {
        let request = Request::get(edge.allowed.as_str()).body("x").trailer(name, key);
        let variant = Variant::new(FAMILY, "in the trailers", name, Wire::Both(request));
        all.push(variant.refused());
    }
    all
}
