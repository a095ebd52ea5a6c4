//! Redacts keys and tokens, also those that are encoded.

use std::ops::Range;

use omniflow_policy::key::SECRET_LENGTH;
use omniflow_policy::redaction::{REDACTED, find_secrets, replace};

use crate::encoded_text::{View, search};

/// Replaces everything in the form of a key or token, even if it is encoded: then the encoded text as a whole, if it encodes more
/// than single characters. `None` if the search would exceed its limit.
pub fn redact_secrets(text: &[u8]) -> Option<Vec<u8>> {
    let mut secrets = Vec::new();
    let is_complete = search(text, |view| secrets.extend(secrets_in(view)));
    if !is_complete {
        return None;
    }
    Some(if secrets.is_empty() { text.to_vec() } else { replace(text, &merged(secrets)) })
}

/// Like [`redact_secrets`], for a text of a record. A text whose search would exceed its limit is redacted as a whole. `None` if there
/// is nothing to redact.
pub fn redact_text(text: &str) -> Option<String> {
    // Most texts are shorter than any key.
    if text.len() <= SECRET_LENGTH / 2 {
        return None;
    }
    let clean = redact_secrets(text.as_bytes()).and_then(|clean| String::from_utf8(clean).ok());
    clean.map_or_else(|| Some(REDACTED.to_owned()), |clean| (clean != text).then_some(clean))
}

/// Where the secrets of a view are in the text that is searched.
fn secrets_in(view: &View) -> impl Iterator<Item = Range<usize>> {
    find_secrets(view.bytes()).into_iter().map(|secret| {
        // What follows in the next line is another word.
        let length = if view.is_joined() { secret.len().min(SECRET_LENGTH) } else { secret.len() };
        view.source(secret.start..secret.start + length)
    })
}

/// Sorted, without overlaps.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
