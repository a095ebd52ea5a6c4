//! Base64 (RFC 4648) with the standard and the URL alphabet.

use std::ops::Range;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::view::View;
use super::{Budget, MIN_TEXT, add_texts};

/// Minimum number of characters that encode [`MIN_TEXT`] bytes.
const MIN_LENGTH: usize = MIN_TEXT.div_ceil(3) * 4;
/// What the first bytes of gzip are in Base64, at each of the three places in a group that they may begin at.
const GZIP: [&[u8]; 3] = [b"H4sI", b"+LC", b"fiw"];
/// The last character may have any unused bits, because the end of a run may be that of another word.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes each run of characters of the alphabets, from each of its first four characters: where the encoding begins is unknown
/// if other words precede it directly.
pub(super) fn decode(view: &View, budget: &mut Budget, views: &mut Vec<View>) {
    let bytes = view.bytes();
    let mut start = 0;
    while let Some(rest) = bytes.get(start..).filter(|rest| !rest.is_empty()) {
        let length = rest.iter().take_while(|byte| is_digit(**byte)).count();
        let end = start + length;
        if length >= MIN_LENGTH {
            let digits: Zeroizing<Vec<u8>> = Zeroizing::new(rest.iter().take(length).map(standard).collect());
            for skipped in 0..4 {
                let digits = digits.get(skipped..).unwrap_or_default();
                if !may_encode_text(digits) {
                    continue;
                }
                // One digit more is less than a byte.
                let whole = digits.len() - usize::from(digits.len() % 4 == 1);
                let decoded = ENGINE.decode(digits.get(..whole).unwrap_or_default()).map(Zeroizing::new);
                // Four digits encode three bytes.
                let first = start + skipped;
                let source = |bytes: Range<usize>| {
                    first + bytes.start * 4 / 3..end.min(first + (bytes.end * 4).div_ceil(3))
                };
                if let Ok(decoded) = decoded {
                    add_texts(view, &decoded, source, budget, views);
                }
            }
        }
        start = end + 1;
    }
}

/// Whether digits may encode a text or compressed data. It rules out most words of plain texts without decoding them: in a text, the
/// first bit of each byte is 0.
fn may_encode_text(digits: &[u8]) -> bool {
    let mut texts = 0;
    let has_text = digits.chunks_exact(4).any(|group| {
        let first_bits = [0b10_0000, 0b00_1000, 0b00_0010];
        let is_text = group.iter().zip(first_bits).all(|(digit, bit)| value(*digit) & bit == 0);
        texts = if is_text { texts + 1 } else { 0 };
        texts == MIN_TEXT / 3 - 1
    });
    let is_zlib = matches!(digits, [b'e', b'A' | b'F' | b'J' | b'N', ..]);
    has_text || is_zlib || GZIP.iter().any(|magic| digits.windows(magic.len()).any(|window| window == *magic))
}

/// The value of a digit of the standard alphabet.
fn value(digit: u8) -> u8 {
    match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        _ => 63,
    }
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// The digit in the standard alphabet.
fn standard(digit: &u8) -> u8 {
    match digit {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    }
}
