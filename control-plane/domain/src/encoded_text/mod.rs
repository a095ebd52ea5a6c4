//! Searches a text, and the texts that are encoded in it.
//!
//! A secret in a log or a message is often encoded: a key as the password of `Authorization: Basic`, in the query string of a URL
//! within JSON, in a compressed attachment. [`search`] decodes whatever can be decoded, and what is found in it again, and visits
//! each of these views of the text.
//!
//! Every decoder is one function in [`DECODERS`], and all of them share one [`Budget`]: the bytes that a search may decode are a
//! fixed multiple of its text, so a text that was written to be expensive costs no more than that.
//!
//! | module | decoder |
//! |---|---|
//! | [`escapes`] | percent-encoding, escapes of JSON and of programming languages, character references of HTML, UTF-16 |
//! | [`lines`] | line wraps |
//! | [`base64`] | Base64, with both alphabets and at any position |
//! | [`hex`] | hexadecimal digits |
//! | [`gzip`] | gzip and zlib |

mod base64;
mod escapes;
mod gzip;
mod hex;
mod lines;
mod view;

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::ops::Range;

pub use self::view::View;

/// Maximum number of encodings around each other that are decoded.
const MAX_DEPTH: u8 = 4;
/// Bytes that a search may decode, as a multiple of the bytes of its text. A log shrinks to a tenth when it is compressed, and is
/// decoded in three ways after that.
const MAX_EXPANSION: usize = 32;
/// Bytes that a search of a short text may decode nevertheless.
const MIN_BUDGET: usize = 32 * 1024;
/// What each view counts, besides its bytes.
const VIEW_COST: usize = 64;
/// Minimum number of characters that are considered a text in what Base64 or hexadecimal digits encode. Fewer occur in random
/// bytes. Keys of other systems have at least as many.
const MIN_TEXT: usize = 12;

/// Decodes all texts of one encoding in a view.
type Decoder = fn(&View, &mut Budget, &mut Vec<View>);

/// All decoders. Each adds nothing for a view in which it finds nothing to decode.
const DECODERS: [Decoder; 5] = [escapes::decode, lines::decode, base64::decode, hex::decode, gzip::decode];

/// What a search may still decode.
struct Budget {
    remaining: usize,
    is_exceeded: bool,
}

/// Visits a text and every text that is encoded in it, those in fewer encodings first. Returns whether the search was complete:
/// `false` if decoding everything would have exceeded the limit.
#[must_use]
pub fn search(text: &[u8], mut visit: impl FnMut(&View)) -> bool {
    let mut budget = Budget::new(text.len());
    let mut seen = HashSet::new();
    let mut views = VecDeque::from([View::new(text)]);
    let mut found = Vec::new();
    while let Some(view) = views.pop_front() {
        visit(&view);
        if view.depth() == MAX_DEPTH {
            continue;
        }
        for decode in DECODERS {
            decode(&view, &mut budget, &mut found);
        }
        for view in found.drain(..) {
            // Encodings that are decoded in another order often yield the same view.
            let hash = seen.hasher().hash_one(&view);
            if seen.insert(hash) {
                views.push_back(view);
            }
        }
    }
    !budget.is_exceeded
}

// === impl Budget ===

impl Budget {
    fn new(length: usize) -> Self {
        Self { remaining: length.saturating_mul(MAX_EXPANSION).max(MIN_BUDGET), is_exceeded: false }
    }

    /// Takes the cost of a view with this many bytes. `false` if that exceeds the budget.
    fn take(&mut self, bytes: usize) -> bool {
        match self.remaining.checked_sub(bytes.saturating_add(VIEW_COST)) {
            Some(remaining) => self.remaining = remaining,
            None => self.is_exceeded = true,
        }
        !self.is_exceeded
    }

    /// Adds a view if the budget allows it.
    fn add(&mut self, view: View, views: &mut Vec<View>) {
        if self.take(view.bytes().len()) {
            views.push(view);
        }
    }
}

/// Adds the texts in decoded bytes, which `source` maps to the range of the view that encodes them. Bytes that compression may have
/// produced are added as they are.
fn add_texts(
    view: &View,
    decoded: &[u8],
    source: impl Fn(Range<usize>) -> Range<usize>,
    budget: &mut Budget,
    views: &mut Vec<View>,
) {
    if let Some(start) = gzip::find(decoded) {
        budget
            .add(view.within(source(start..decoded.len()), decoded.get(start..).unwrap_or_default()), views);
    }
    // Half of the bytes of UTF-16 are zero.
    let is_text = |byte: &u8| matches!(byte, 0 | b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let mut start = 0;
    for text in decoded.split(|byte| !is_text(byte)) {
        if text.len() >= MIN_TEXT && text.iter().filter(|byte| **byte != 0).count() >= MIN_TEXT {
            budget.add(view.within(source(start..start + text.len()), text), views);
        }
        start += text.len() + 1;
    }
}

#[cfg(test)]
mod tests;
