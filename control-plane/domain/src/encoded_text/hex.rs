//! Hexadecimal digits, as in a dump.

use zeroize::Zeroizing;

use super::view::View;
use super::{Budget, MIN_TEXT, add_texts};

/// Decodes each run of pairs of digits, with or without one separator between pairs. A run without separators is decoded from its
/// second digit too, because where the encoding begins is unknown.
pub(super) fn decode(view: &View, budget: &mut Budget, views: &mut Vec<View>) {
    let bytes = view.bytes();
    let mut start = 0;
    while let Some(rest) = bytes.get(start..).filter(|rest| !rest.is_empty()) {
        let length = run_length(rest);
        let end = start + length;
        if length >= 2 * MIN_TEXT {
            let run = rest.iter().take(length).copied();
            let digits: Zeroizing<Vec<u8>> = Zeroizing::new(run.filter(u8::is_ascii_hexdigit).collect());
            for skipped in 0..2 {
                let digits = digits.get(skipped..).unwrap_or_default();
                let whole = digits.len() - digits.len() % 2;
                if let Ok(decoded) = hex::decode(digits.get(..whole).unwrap_or_default()).map(Zeroizing::new)
                {
                    add_texts(view, &decoded, |_| start..end, budget, views);
                }
            }
        }
        start = end + 1;
    }
}

/// The length of the run at the beginning of a text; 0 without one.
fn run_length(text: &[u8]) -> usize {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let mut length = digits(text);
    let mut last = length;
    while last > 0 && last.is_multiple_of(2) && matches!(text.get(length), Some(b' ' | b':' | b'-' | b',')) {
        last = text.get(length + 1..).map_or(0, digits);
        if last > 0 {
            length += 1 + last;
        }
    }
    length
}
