//! Which request targets have one reading only.
//!
//! The filter decides by the path, the upstream serves by the path, and the two must not read it differently.
//! What some server reads in another way (an encoded slash, a dot segment, a `;` parameter, a doubled slash, …)
//! is refused, not normalised and hoped for. See CVE-2021-29492, CVE-2021-31920, CVE-2021-32779, CVE-2019-9901.

use alloc::vec::Vec;

/// A target that some server reads in another way than others, or that is no path at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path can be read in more than one way")]
pub struct AmbiguousPath;

/// A target with one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// From the first slash up to the question mark; ASCII.
    pub path: &'a str,
    /// Behind the first question mark; empty without one.
    pub query: &'a [u8],
}

impl<'a> Target<'a> {
    /// Reads the value of `:path`.
    pub fn parse(target: &'a [u8]) -> Result<Self, AmbiguousPath> {
        let (path, query) = split_query(target);
        if !has_one_reading(path) || query.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
            return Err(AmbiguousPath);
        }
        let path = core::str::from_utf8(path).map_err(|_| AmbiguousPath)?;
        Ok(Self { path, query })
    }
}

/// Splits a target at its first question mark, whatever else it holds. For records of refused calls too.
pub fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = target.splitn(2, |byte| *byte == b'?');
    (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
}

fn has_one_reading(path: &[u8]) -> bool {
    let Some(segments) = path.strip_prefix(b"/") else {
        return false;
    };
    let last = segments.split(|byte| *byte == b'/').count() - 1;
    segments.split(|byte| *byte == b'/').enumerate().all(|(index, segment)| match segment {
        b"." | b".." => false,
        // A trailing slash is a path of its own, which matches no route unless one says so.
        b"" => index == last,
        _ => segment_has_one_reading(segment),
    })
}

fn segment_has_one_reading(segment: &[u8]) -> bool {
    let mut rest = segment;
    // The bytes of one percent-encoded run must be UTF-8: overlong forms hide a slash from strict readers only.
    let mut utf8 = Utf8Check::default();
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'%' => {
                let Some((digits, after)) = after.split_first_chunk::<2>() else {
                    return false;
                };
                let Some(byte) = decode_hex(*digits) else {
                    return false;
                };
                if !may_be_encoded(byte) || !utf8.push(byte) {
                    return false;
                }
                after
            }
            byte if is_plain(*byte) && utf8.is_complete() => after,
            _ => return false,
        };
    }
    utf8.is_complete() && !hides_a_separator(segment)
}

/// Whether a segment with encoded characters reads as a dot segment or holds a separator once a server has trimmed
/// white space or replaced characters by those that they look like (Unicode's compatibility forms).
fn hides_a_separator(segment: &[u8]) -> bool {
    if !segment.contains(&b'%') {
        return false;
    }
    let decoded: Vec<u8> = decode(segment);
    let Ok(text) = core::str::from_utf8(&decoded) else { return true };
    // What Unicode's compatibility forms turn into '.', '/', '\\', '%', ';', '?' or '#', and what looks like them.
    let lookalike = |c| {
        matches!(c, '\u{37e}' | '\u{2024}'..='\u{2026}' | '\u{2044}' | '\u{2047}'..='\u{2049}'
            | '\u{2100}' | '\u{2101}' | '\u{2105}' | '\u{2106}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}'
            | '\u{fe14}' | '\u{fe16}' | '\u{fe19}' | '\u{fe30}' | '\u{fe52}' | '\u{fe54}' | '\u{fe56}' | '\u{fe5f}'
            | '\u{fe68}' | '\u{fe6a}' | '\u{ff03}' | '\u{ff05}' | '\u{ff0e}' | '\u{ff0f}' | '\u{ff1b}' | '\u{ff1f}'
            | '\u{ff3c}')
    };
    let blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    text.contains(lookalike) || matches!(text.trim_matches(blank), "" | "." | "..")
}

/// Undoes percent-encoding. What is not well-formed stays.
pub(crate) fn decode(segment: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((first, after)) = rest.split_first() {
        let encoded = after.split_first_chunk::<2>().filter(|_| *first == b'%');
        let (byte, after) = match encoded.and_then(|(digits, after)| Some((decode_hex(*digits)?, after))) {
            Some(decoded) => decoded,
            None => (*first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    decoded
}

/// RFC 3986 `pchar` without `;`, which many servers cut at, and without `%`.
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether an encoded byte means the same to every reader: not one that plain text would carry (a normaliser
/// decodes it, RFC 3986 6.2.2.2), no separator of any server, no second encoding, no control character.
fn may_be_encoded(byte: u8) -> bool {
    !(is_unreserved(byte)
        || byte.is_ascii_control()
        || matches!(byte, b'/' | b'\\' | b'%' | b';' | b'?' | b'#'))
}

/// The byte of two hexadecimal digits, in either case.
pub(crate) fn decode_hex(digits: [u8; 2]) -> Option<u8> {
    let mut byte = [0];
    hex::decode_to_slice(digits, &mut byte).ok()?;
    Some(byte[0])
}

/// Checks bytes for UTF-8 one at a time.
#[derive(Default)]
struct Utf8Check {
    sequence: [u8; 4],
    length: usize,
}

impl Utf8Check {
    fn push(&mut self, byte: u8) -> bool {
        let Some(slot) = self.sequence.get_mut(self.length) else {
            return false;
        };
        *slot = byte;
        self.length += 1;
        match core::str::from_utf8(self.sequence.get(..self.length).unwrap_or_default()) {
            Ok(_) => {
                self.length = 0;
                true
            }
            Err(error) => error.error_len().is_none(),
        }
    }

    fn is_complete(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_with_one_reading_pass() {
        for path in [
            "/",
            "/api/v1/contacts",
            "/api/v1/contacts/",
            "/api/v1/contacts/a-b_c.d~e",
            "/a/...",
            "/a/.hidden",
            "/a/b..c",
            "/a/hello%20world",
            "/a/%C3%A9t%C3%A9",
            "/a/user@example.com",
            "/a/x:cancel",
        ] {
            assert_eq!(Target::parse(path.as_bytes()).map(|t| t.path), Ok(path), "{path}");
        }
        let target = Target::parse(b"/a?b=%2F../;x?y").unwrap();
        assert_eq!((target.path, target.query), ("/a", &b"b=%2F../;x?y"[..]));
    }

    #[test]
    fn paths_with_more_readings_are_refused() {
        for path in [
            "",
            "*",
            "a",
            "http://x/a",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/.",
            "/a/..",
            "/a/./b",
            "/a/../b",
            "/..;/a",
            "/a;x",
            "/a/b;x=1/c",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/%2e/a",
            "/%2e%2e/a",
            "/.%2e/a",
            "/a%252fb",
            "/a%25",
            "/a%",
            "/a%4",
            "/a%zz",
            "/%61pi",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a\0",
            "/a b",
            "/a#b",
            "/a%23b",
            "/a%3fb",
            "/a%3bb",
            "/a?b#c",
            "/a\tb",
            "/é",
            "/a%c0%af",
            "/a%c3",
            "/a%c3x",
            "/a|b",
            "/a%ed%a0%80",
            "/..%20",
            "/%20..%c2%a0/a",
            "/.%20",
            "/%20",
            "/a/..%EF%BC%8Fb",
            "/a%e2%88%95b",
            "/%e2%80%a5/a",
            "/a/%EF%B8%B0/b",
            "/..%EF%BB%BF/a",
            "/a%EF%BC%9Bb",
            "/a%CD%BEb",
            "/a[b]",
            "/a\"b",
        ] {
            assert_eq!(Target::parse(path.as_bytes()), Err(AmbiguousPath), "{path:?}");
        }
        assert_eq!(Target::parse(b"/a\xff"), Err(AmbiguousPath));
        assert_eq!(Target::parse(b"/a?\xff"), Err(AmbiguousPath));
    }

    /// A lenient upstream: decodes twice, folds separators, drops parameters, resolves dots.
    fn lenient_reading(path: &str) -> Vec<u8> {
        let mut bytes = path.as_bytes().to_vec();
        for _ in 0..2 {
            bytes = decode(&bytes);
        }
        let mut segments: Vec<Vec<u8>> = Vec::new();
        for segment in bytes.split(|b| matches!(b, b'/' | b'\\')) {
            match segment.split(|b| matches!(b, b';' | 0 | b'#' | b'?')).next().unwrap_or_default() {
                b"" | b"." => {}
                b".." => drop(segments.pop()),
                other => segments.push(other.to_vec()),
            }
        }
        segments.join(&b'/')
    }

    fn strict_reading(path: &str) -> Vec<u8> {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        segments.map(|segment| decode(segment.as_bytes())).collect::<Vec<_>>().join(&b'/')
    }

    proptest! {
        #[test]
        fn what_passes_reads_the_same_to_a_lenient_server(
            path in "/([a-c./\\\\;%?#]|%2[efEF5]|%5[cC]|%3[bB]|%6[1-3]|%00|%c3%a9|%20){0,24}"
        ) {
            if let Ok(target) = Target::parse(path.as_bytes()) {
                prop_assert_eq!(lenient_reading(target.path), strict_reading(target.path));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Target::parse(&bytes);
        }
    }
}
