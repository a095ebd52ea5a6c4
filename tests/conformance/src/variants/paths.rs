//! Paths that the filter and an upstream might interpret differently.

use super::{Variant, Wire, shown, with_key};
use crate::edge::Edge;

const FAMILY: &str = "paths";
/// Sequences that some server interprets as a slash, or does not where others do.
const SLASHES: [&str; 26] = [
    "/",
    "//",
    "///",
    "%2f",
    "%2F",
    "%2f%2f",
    "/%2f",
    "%252f",
    "%25252f",
    "\\",
    "/\\",
    "\\\\",
    "%5c",
    "%5C",
    "%255c",
    "/./",
    "/%2e/",
    "/;/",
    "/;a=b/",
    ";/",
    "%c0%af",
    "%e0%80%af",
    "%ef%bc%8f",
    "%e2%88%95",
    "%00/",
    "%u2215",
];
/// Sequences that some server interprets as the parent directory.
const PARENTS: [&str; 22] = [
    "..",
    "%2e%2e",
    "%2E%2E",
    ".%2e",
    "%2e.",
    "%252e%252e",
    "%25252e%25252e",
    "..;",
    "..;a=b",
    "%2e%2e;",
    "..%3b",
    "..%00",
    "..%20",
    "%20..",
    "..%09",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%ef%bc%8e%ef%bc%8e",
    "%e2%80%a5",
    "%u002e%u002e",
    "...",
    "..%0a",
];
/// Sequences that some server removes, or at which it stops.
const ENDS: [&str; 37] = [
    "/",
    "//",
    ";",
    ";a=b",
    ";/",
    "%3b",
    "%3B",
    "?",
    "%3f",
    "%3F",
    "#",
    "%23",
    "#/x",
    "%00",
    "%00.json",
    "%0a",
    "%0d%0a",
    " ",
    "%20",
    "%09",
    "+",
    ".",
    "..",
    "/.",
    "/..",
    "/%2e",
    "/.%2e",
    ".json",
    "~",
    "*",
    "\\",
    "%5c",
    "%",
    "%2",
    "%zz",
    "%u0000",
    "%ef%bc%9f",
];

pub(super) fn variants(edge: &Edge<'_>) -> Vec<Variant> {
    let mut all = Vec::new();
    let mut add = |case: &'static str, target: Vec<u8>| {
        let name = shown(&target);
        all.push(Variant::new(FAMILY, case, name, Wire::Both(with_key(edge, target))));
    };
    for forbidden in &edge.forbidden {
        traversals(&edge.allowed, forbidden, &mut add);
        disguises(forbidden, &mut add);
        whole_targets(forbidden, &mut add);
    }
    odd_bytes(&edge.allowed, &mut add);
    all.extend(methods(edge));
    all
}

/// Up and out of the allowed paths, and down again.
fn traversals(allowed: &str, forbidden: &str, add: &mut impl FnMut(&'static str, Vec<u8>)) {
    let depth = allowed.matches('/').count();
    let below = forbidden.trim_start_matches('/');
    for slash in SLASHES {
        for parent in PARENTS {
            let up = format!("{slash}{parent}").repeat(depth);
            add("up and down again", format!("{allowed}{up}{slash}{below}").into_bytes());
            add(
                "up and down again, from an item",
                format!("{allowed}/7{slash}{parent}{up}/{below}").into_bytes(),
            );
        }
        add("another separator", forbidden.replace('/', slash).into_bytes());
        if let Some((head, tail)) = forbidden.rsplit_once('/') {
            add("another last separator", format!("{head}{slash}{tail}").into_bytes());
        }
        add("something in front", format!("{slash}{below}").into_bytes());
        add("something in front", format!("{slash}x/..{forbidden}").into_bytes());
        add("something in front", format!("/.{slash}{below}").into_bytes());
    }
    for hidden in ["?/../../../..", "%3f/../../../..", "#/../../../..", ";/../../../..", "/7?x=", "/7;x="] {
        add("behind a question mark", format!("{allowed}{hidden}{forbidden}").into_bytes());
    }
}

/// The forbidden path itself, in other spellings.
fn disguises(forbidden: &str, add: &mut impl FnMut(&'static str, Vec<u8>)) {
    for end in ENDS {
        add("something behind", format!("{forbidden}{end}").into_bytes());
        if let Some((head, tail)) = forbidden.rsplit_once('/') {
            add("something in the middle", format!("{head}{end}/{tail}").into_bytes());
            add("something before the last name", format!("{head}/{end}{tail}").into_bytes());
        }
    }
    for (at, c) in forbidden.char_indices().skip(1) {
        let (before, behind) = (&forbidden[..at], &forbidden[at + c.len_utf8()..]);
        let byte = u32::from(c) & 0xff;
        for encoded in [
            format!("%{byte:02x}"),
            format!("%{byte:02X}"),
            format!("%25{byte:02x}"),
            format!("%u00{byte:02x}"),
            format!("%c{:x}%{:02x}", byte >> 6, 0x80 | (byte & 0x3f)),
            // The full-width form of the character.
            format!("%ef%bc%{:02x}", 0x80 | ((byte.wrapping_sub(0x20)) & 0x3f)),
        ] {
            add("an encoded character", format!("{before}{encoded}{behind}").into_bytes());
        }
    }
    let all: String = forbidden.bytes().map(|byte| format!("%{byte:02x}")).collect();
    add("all characters encoded", all.clone().into_bytes());
    add("all characters encoded", format!("/{}", &all[3..]).into_bytes());
    add("all characters encoded", all.replace('%', "%25").into_bytes());
}

/// Targets that are more or less than a path.
fn whole_targets(forbidden: &str, add: &mut impl FnMut(&'static str, Vec<u8>)) {
    let below = forbidden.trim_start_matches('/');
    for target in [
        format!("http://edge{forbidden}"),
        format!("https://edge{forbidden}"),
        format!("HTTP://edge{forbidden}"),
        format!("http://x@edge{forbidden}"),
        format!("http://edge:80{forbidden}"),
        format!("http://edge?{forbidden}"),
        format!("http://edge#{forbidden}"),
        format!("http:{forbidden}"),
        format!("http:/{forbidden}"),
        format!("http:///{below}"),
        format!("ftp://edge{forbidden}"),
        format!("file://{forbidden}"),
        format!("//edge{forbidden}"),
        format!("/http://edge{forbidden}"),
        format!("edge{forbidden}"),
        format!("edge:80{forbidden}"),
        below.to_owned(),
        format!("?{forbidden}"),
        format!("#{forbidden}"),
        format!(";{forbidden}"),
        format!("*{forbidden}"),
        format!("\\{below}"),
        format!("{forbidden} HTTP/1.1"),
        format!("{forbidden}\tx"),
    ] {
        add("more than a path", target.into_bytes());
    }
    for target in ["", "*", "?", "#", "/", "//", ".", "..", "edge:80", "http://edge", "\u{0}", "%2f"] {
        add("less than a path", target.as_bytes().to_vec());
    }
}

/// Each byte in place of a name, plain and encoded.
fn odd_bytes(allowed: &str, add: &mut impl FnMut(&'static str, Vec<u8>)) {
    for byte in 0..=u8::MAX {
        add("any byte", [allowed.as_bytes(), b"/a", &[byte], b"b"].concat());
        add("any byte encoded", format!("{allowed}/a%{byte:02x}b").into_bytes());
        add("any byte encoded twice", format!("{allowed}/a%25{byte:02x}b").into_bytes());
        add("any byte alone", [allowed.as_bytes(), b"/", &[byte]].concat());
        add("any byte alone, encoded", format!("{allowed}/%{byte:02X}").into_bytes());
        add("any byte in the query", [allowed.as_bytes(), b"?a=", &[byte]].concat());
    }
    for length in [1_000, 8_000, 16_000, 60_000] {
        add("long", format!("{allowed}/{}", "a".repeat(length)).into_bytes());
        add("long", format!("{allowed}{}", "/a".repeat(length / 2)).into_bytes());
        add("long", format!("{allowed}{}", "/..".repeat(length / 3)).into_bytes());
        add("long", format!("{allowed}?{}", "a=1&".repeat(length / 4)).into_bytes());
    }
}

/// The key may only read: every other method, in every spelling, must be refused.
fn methods(edge: &Edge<'_>) -> Vec<Variant> {
    let method = |case, method: &[u8], target: &str| {
        let request = with_key(edge, target).method(method);
        Variant::new("methods", case, shown(&[method, b" ", target.as_bytes()].concat()), Wire::Both(request))
    };
    let mut all = Vec::new();
    for name in [
        "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "PROPFIND", "PRI", "LOCK", "X",
    ] {
        for target in [edge.allowed.clone(), format!("{}/7", edge.allowed)] {
            all.push(method("another method", name.as_bytes(), &target));
            all.push(method("a method in small letters", name.to_ascii_lowercase().as_bytes(), &target));
        }
    }
    for name in
        ["Get", "gET", "get", "G", "GETT", "GET\t", "GET\0", "GE-T", "", " ", "GET/", "*", "\u{ff}", "gét"]
    {
        all.push(method("nearly GET", name.as_bytes(), &edge.allowed));
    }
    all.push(method("a long method", "A".repeat(5_000).as_bytes(), &edge.allowed));
    for target in ["edge:80", "/", edge.allowed.as_str(), "", "http://edge/"] {
        all.push(method("CONNECT", b"CONNECT", target));
    }
    all
}
