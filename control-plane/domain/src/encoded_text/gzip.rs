//! Compression: gzip (RFC 1952) anywhere, and zlib (RFC 1950) at the beginning.

use std::io::Read;
use std::ops::Range;

use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use zeroize::Zeroizing;

use super::Budget;
use super::view::View;

/// The first bytes of gzip.
const MAGIC: &[u8] = &[0x1f, 0x8b, 8];
/// What an attempt costs, whatever it yields: it allocates the tables of a decoder.
const ATTEMPT_COST: usize = 4 * 1024;

/// Where compressed data begins.
pub(super) fn find(bytes: &[u8]) -> Option<usize> {
    if is_zlib(bytes) {
        return Some(0);
    }
    position(bytes)
}

/// The position of the first member of gzip.
fn position(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}

/// Decompresses whatever may be compressed, as far as the budget allows. What is truncated or damaged is decompressed up to there.
pub(super) fn decode(view: &View, budget: &mut Budget, views: &mut Vec<View>) {
    let bytes = view.bytes();
    if is_zlib(bytes) {
        let mut decoder = ZlibDecoder::new(bytes);
        let text = decompress(&mut decoder, budget);
        let end = bytes.len() - decoder.get_ref().len();
        add(view, 0..end, &text, budget, views);
    }
    let mut start = 0;
    while let Some(next) = bytes.get(start..).and_then(position) {
        start += next;
        let mut decoder = MultiGzDecoder::new(bytes.get(start..).unwrap_or_default());
        let text = decompress(&mut decoder, budget);
        let end = bytes.len() - decoder.get_ref().len();
        if !add(view, start..end, &text, budget, views) {
            return;
        }
        // Without a text it was not compressed data.
        start = if text.is_empty() { start + MAGIC.len() } else { end.max(start + MAGIC.len()) };
    }
}

/// Adds the decompressed text of a range. `false` if that exceeds the budget. What was read costs too, because a range that yields
/// nothing may be long.
fn add(view: &View, range: Range<usize>, text: &[u8], budget: &mut Budget, views: &mut Vec<View>) -> bool {
    if budget.take(ATTEMPT_COST + range.len()) && !text.is_empty() {
        budget.add(view.within(range, text), views);
    }
    !budget.is_exceeded
}

fn decompress(decoder: &mut impl Read, budget: &Budget) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::new());
    // One byte more shows that there is more.
    let limit = budget.remaining.saturating_add(1);
    let _ = decoder.take(limit as u64).read_to_end(&mut text);
    text
}

/// The first byte states a window of 32 KiB and the method; both together are divisible by 31.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [0x78, second, ..] if (0x7800 + u16::from(*second)).is_multiple_of(31))
}
