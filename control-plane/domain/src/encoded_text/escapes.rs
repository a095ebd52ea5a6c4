//! Encodings of single characters: percent-encoding, escapes, character references, and the zero bytes of UTF-16.

use super::Budget;
use super::view::{Rewritten, View};

/// Maximum length of a character reference in bytes, as in `&UnderBar;` or `&#x0000005f;`.
const MAX_REFERENCE: usize = 12;
/// Named character references of ASCII characters that a key, its surroundings or another encoding may contain.
const NAMED: [(&[u8], u8); 16] = [
    (b"amp", b'&'),
    (b"lowbar", b'_'),
    (b"UnderBar", b'_'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"percnt", b'%'),
    (b"bsol", b'\\'),
    (b"sol", b'/'),
    (b"plus", b'+'),
    (b"equals", b'='),
    (b"num", b'#'),
    (b"semi", b';'),
    (b"Tab", b'\t'),
    (b"NewLine", b'\n'),
];

/// One decoded character and the number of bytes that encode it.
struct Decoded {
    character: [u8; 4],
    length: usize,
    encoded: usize,
}

/// Decodes one layer of all of them at once: no key contains any of their characters.
pub(super) fn decode(view: &View, budget: &mut Budget, views: &mut Vec<View>) {
    let bytes = view.bytes();
    if !bytes.iter().any(|byte| matches!(byte, 0 | b'%' | b'\\' | b'&')) || !budget.take(bytes.len()) {
        return;
    }
    let mut rewritten = Rewritten::new(view);
    let mut at = 0;
    let mut is_changed = false;
    while let Some((first, after)) = bytes.get(at..).and_then(<[u8]>::split_first) {
        let decoded = match first {
            b'%' => percent(after),
            b'\\' => escape(after),
            b'&' => reference(after),
            0 => Some(Decoded { character: [0; 4], length: 0, encoded: 0 }),
            _ => None,
        };
        match decoded {
            Some(Decoded { character, length, encoded }) => {
                is_changed = true;
                rewritten.push(character.get(..length).unwrap_or_default(), at..at + 1 + encoded);
                at += 1 + encoded;
            }
            None => {
                rewritten.push(&[*first], at..at + 1);
                at += 1;
            }
        }
    }
    if is_changed {
        views.push(rewritten.finish(false));
    }
}

/// `%5f`, and `%u005f` as the `escape` of browsers writes it.
fn percent(after: &[u8]) -> Option<Decoded> {
    match after {
        [b'u' | b'U', digits @ ..] => character(hexadecimal(digits.get(..4)?)?, 5),
        [..] => byte(hexadecimal(after.get(..2)?)?, 2),
    }
}

/// `\u005f`, `\u{5f}`, `\x5f`, `\n`, and a backslash before any other character that is not a letter or a digit.
fn escape(after: &[u8]) -> Option<Decoded> {
    match after {
        [b'u', b'{', rest @ ..] => {
            let length = rest.iter().take(7).position(|byte| *byte == b'}')?;
            character(hexadecimal(rest.get(..length)?)?, length + 3)
        }
        [b'u' | b'U', digits @ ..] => character(hexadecimal(digits.get(..4)?)?, 5),
        [b'x', digits @ ..] => byte(hexadecimal(digits.get(..2)?)?, 3),
        [b'n', ..] => byte(u32::from(b'\n'), 1),
        [b'r', ..] => byte(u32::from(b'\r'), 1),
        [b't', ..] => byte(u32::from(b'\t'), 1),
        [other, ..] if other.is_ascii_punctuation() => byte(u32::from(*other), 1),
        _ => None,
    }
}

/// `&#95;`, `&#x5f;`, `&lowbar;`. Browsers do without the semicolon of a number.
fn reference(after: &[u8]) -> Option<Decoded> {
    let (hash, rest) = match after {
        [b'#', rest @ ..] => (1, rest),
        _ => (0, after),
    };
    let name = leading(rest.get(..MAX_REFERENCE).unwrap_or(rest), u8::is_ascii_alphanumeric);
    let has_end = rest.get(name.len()) == Some(&b';');
    if hash == 0 {
        let (_, byte_of) = NAMED.iter().find(|(known, _)| has_end && *known == name)?;
        return byte(u32::from(*byte_of), name.len() + 1);
    }
    let (code, length) = match name {
        [b'x' | b'X', digits @ ..] => {
            let digits = leading(digits, u8::is_ascii_hexdigit);
            (hexadecimal(digits)?, 1 + digits.len())
        }
        _ => {
            let digits = leading(name, u8::is_ascii_digit);
            (std::str::from_utf8(digits).ok()?.parse().ok()?, digits.len())
        }
    };
    let end = usize::from(rest.get(length) == Some(&b';'));
    character(code, hash + length + end)
}

fn leading(bytes: &[u8], is_digit: impl Fn(&u8) -> bool) -> &[u8] {
    bytes.get(..bytes.iter().take_while(|byte| is_digit(byte)).count()).unwrap_or(bytes)
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, 16).ok()
}

fn byte(value: u32, encoded: usize) -> Option<Decoded> {
    Some(Decoded { character: [u8::try_from(value).ok()?, 0, 0, 0], length: 1, encoded })
}

fn character(code: u32, encoded: usize) -> Option<Decoded> {
    let mut character = [0; 4];
    let length =
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut character).len();
    Some(Decoded { character, length, encoded })
}
