//! Line wraps: text that was broken to fit a width.

use super::Budget;
use super::view::{Rewritten, View};

/// Joins all lines: removes each line break with the mark of a continuation before it (`\` of shells, `=` of quoted-printable
/// mail), and the indentation or quotation mark (`>`) behind it.
pub(super) fn decode(view: &View, budget: &mut Budget, views: &mut Vec<View>) {
    let bytes = view.bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) || !budget.take(bytes.len()) {
        return;
    }
    let mut rewritten = Rewritten::new(view);
    let mut at = 0;
    while let Some(rest @ [first, ..]) = bytes.get(at..) {
        match line_break(rest) {
            0 => {
                rewritten.push(&[*first], at..at + 1);
                at += 1;
            }
            length => at += length,
        }
    }
    views.push(rewritten.finish(true));
}

/// The length of the line break at the beginning of a text, with what belongs to it; 0 without one.
fn line_break(text: &[u8]) -> usize {
    let is_break = |byte: Option<&u8>| matches!(byte, Some(b'\n' | b'\r'));
    let mark = usize::from(matches!(text.first(), Some(b'\\' | b'=')));
    if !is_break(text.get(mark)) {
        return 0;
    }
    let is_indentation = |byte: &&u8| matches!(byte, b'\n' | b'\r' | b' ' | b'\t' | b'>');
    mark + text.iter().skip(mark).take_while(is_indentation).count()
}
