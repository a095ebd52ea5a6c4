//! Finds and redacts secrets that are in a text by mistake.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::path::decode_hex;

/// The part of a key or token between its prefix and its random characters.
const MARKERS: [&[u8]; 3] = [b"_live_", b"_test_", b"_token_"];
/// Length in bytes of the longest marker.
const MAX_MARKER_LENGTH: usize = 7;
/// Minimum number of characters after a marker that count as a secret.
const MIN_SECRET_LENGTH: usize = 20;
/// The replacement of a secret.
pub const REDACTED: &str = "***";

/// Maximum number of layers of percent-encoding that are decoded. Proxies and clients encode text that is
/// already encoded.
pub(crate) const MAX_DECODINGS: usize = 4;

/// One character of a text after percent-decoding, and its position in the original text.
#[derive(Clone, Copy)]
struct Character {
    byte: u8,
    start: usize,
    end: usize,
}

/// The letters and digits after a marker.
struct Candidate {
    start: usize,
    length: usize,
}

/// Replaces anything in the form of a key or token, whatever its prefix and position, percent-encoded or not.
/// The marker stays, to show what was there.
pub(crate) fn redact(text: String) -> String {
    let clean = match redact_bytes(text.as_bytes()) {
        Cow::Borrowed(_) => None,
        // The removed and inserted characters are ASCII, so the rest is still valid UTF-8.
        Cow::Owned(clean) => Some(String::from_utf8_lossy(&clean).into_owned()),
    };
    clean.unwrap_or(text)
}

/// Like [`redact`], for bytes that may not be UTF-8.
fn redact_bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    // Every marker contains an underscore, encoded or not.
    if !bytes.iter().any(|byte| matches!(byte, b'_' | b'%')) {
        return Cow::Borrowed(bytes);
    }
    let is_encoded = bytes.contains(&b'%');
    let secrets = if is_encoded { find(decoded(bytes)) } else { find(characters(bytes)) };
    if secrets.is_empty() { Cow::Borrowed(bytes) } else { Cow::Owned(replace(bytes, &secrets)) }
}

/// Finds the random characters of everything in the form of a key or token in a text without encoded characters. Sorted, and
/// without overlaps.
pub fn find_secrets(text: &[u8]) -> Vec<Range<usize>> {
    find(characters(text))
}

/// Replaces ranges of a text, which are sorted and do not overlap, by [`REDACTED`].
pub fn replace(text: &[u8], ranges: &[Range<usize>]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(text.len());
    let mut copied = 0;
    for range in ranges {
        clean.extend_from_slice(text.get(copied..range.start).unwrap_or_default());
        clean.extend_from_slice(REDACTED.as_bytes());
        copied = range.end;
    }
    clean.extend_from_slice(text.get(copied..).unwrap_or_default());
    clean
}

/// The places of secrets in the original text. One pass, however many markers there are.
fn find(characters: impl IntoIterator<Item = Character>) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let mut recent = [0u8; MAX_MARKER_LENGTH];
    let mut candidate: Option<Candidate> = None;
    let mut last = 0;
    for Character { byte, start, end } in characters {
        recent.rotate_left(1);
        recent[MAX_MARKER_LENGTH - 1] = byte;
        if byte.is_ascii_alphanumeric() {
            if let Some(candidate) = &mut candidate {
                candidate.length += 1;
            }
            last = end;
            continue;
        }
        if let Some(secret) = candidate.take().filter(Candidate::is_secret) {
            secrets.push(secret.start..start);
        }
        // The underscore at the end of one marker may start the next one.
        if MARKERS.iter().any(|marker| recent.ends_with(marker)) {
            candidate = Some(Candidate { start: end, length: 0 });
        }
    }
    if let Some(secret) = candidate.filter(Candidate::is_secret) {
        secrets.push(secret.start..last);
    }
    secrets
}

fn characters(text: &[u8]) -> impl Iterator<Item = Character> {
    text.iter().enumerate().map(|(at, byte)| Character { byte: *byte, start: at, end: at + 1 })
}

/// Decodes the percent-encoding of a text, including up to [`MAX_DECODINGS`] layers of it.
fn decoded(text: &[u8]) -> Vec<Character> {
    let mut found: Vec<Character> = characters(text).collect();
    for _ in 0..MAX_DECODINGS {
        let before = found.len();
        found = decoded_once(&found);
        if found.len() == before {
            break;
        }
    }
    found
}

fn decoded_once(characters: &[Character]) -> Vec<Character> {
    let mut decoded = Vec::with_capacity(characters.len());
    let mut rest = characters;
    while let Some((first, after)) = rest.split_first() {
        let encoded = after.split_first_chunk::<2>().filter(|_| first.byte == b'%');
        let (character, after) = match encoded {
            Some(([high, low], behind)) => match decode_hex([high.byte, low.byte]) {
                Some(byte) => (Character { byte, start: first.start, end: low.end }, behind),
                None => (*first, after),
            },
            None => (*first, after),
        };
        decoded.push(character);
        rest = after;
    }
    decoded
}

// === impl Candidate ===

impl Candidate {
    fn is_secret(&self) -> bool {
        self.length >= MIN_SECRET_LENGTH
    }
}

#[cfg(test)]
mod tests;
