//! Request targets that every server interprets in the same way.
//!
//! The filter authorizes a path, and the upstream serves a path: the two must not interpret it differently. A
//! path that some server interprets in another way (an encoded slash, a dot segment, a `;` parameter, a
//! doubled slash, …) is rejected, not normalized. See CVE-2021-29492, CVE-2021-31920, CVE-2021-32779,
//! CVE-2019-9901.

use alloc::vec::Vec;

/// The error for a target that servers interpret in more than one way, or that is not a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path can be read in more than one way")]
pub struct AmbiguousPath;

/// An unambiguous request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path: from the first slash to the question mark; ASCII.
    pub path: &'a str,
    /// The query string: after the first question mark; empty without one.
    pub query: &'a [u8],
}

impl<'a> Target<'a> {
    /// Parses the value of `:path`.
    pub fn parse(target: &'a [u8]) -> Result<Self, AmbiguousPath> {
        let (path, query) = split_query(target);
        if !is_unambiguous(path) || query.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
            return Err(AmbiguousPath);
        }
        let path = core::str::from_utf8(path).map_err(|_| AmbiguousPath)?;
        Ok(Self { path, query })
    }
}

/// Splits a target at its first question mark, without a check. Also used for the records of denied requests.
pub fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = target.splitn(2, |byte| *byte == b'?');
    (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
}

fn is_unambiguous(path: &[u8]) -> bool {
    let Some(segments) = path.strip_prefix(b"/") else {
        return false;
    };
    let last = segments.split(|byte| *byte == b'/').count() - 1;
    segments.split(|byte| *byte == b'/').enumerate().all(|(index, segment)| match segment {
        b"." | b".." => false,
        // A path with a trailing slash is a different path, which only matches a route with a trailing slash.
        b"" => index == last,
        _ => is_segment_unambiguous(segment),
    })
}

fn is_segment_unambiguous(segment: &[u8]) -> bool {
    let mut rest = segment;
    // The bytes of a percent-encoded sequence must be UTF-8: lenient servers decode overlong forms to a
    // slash.
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

/// Whether a segment with encoded characters becomes a dot segment, or contains a separator, once a server
/// has trimmed white space or applied Unicode compatibility normalization.
fn hides_a_separator(segment: &[u8]) -> bool {
    if !segment.contains(&b'%') {
        return false;
    }
    let decoded: Vec<u8> = decode(segment);
    let Ok(text) = core::str::from_utf8(&decoded) else { return true };
    // Characters that Unicode compatibility normalization maps to '.', '/', '\\', '%', ';', '?' or '#', and
    // look-alikes.
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

/// Decodes percent-encoding. Malformed sequences stay as they are.
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

/// RFC 3986 `pchar` without `%`, and without `;`, where many servers truncate.
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether every server interprets a percent-encoded byte in the same way. Excluded are unreserved characters
/// (normalization decodes them, RFC 3986 6.2.2.2), separators, a second layer of encoding, and control
/// characters.
fn may_be_encoded(byte: u8) -> bool {
    !(is_unreserved(byte)
        || byte.is_ascii_control()
        || matches!(byte, b'/' | b'\\' | b'%' | b';' | b'?' | b'#'))
}

/// Decodes two hexadecimal digits, in either case.
pub(crate) fn decode_hex(digits: [u8; 2]) -> Option<u8> {
    let mut byte = [0];
    hex::decode_to_slice(digits, &mut byte).ok()?;
    Some(byte[0])
}

/// Validates UTF-8 byte by byte.
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
mod tests;
