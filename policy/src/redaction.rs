//! Secrets that stand in a text by mistake, and how they are blotted out.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::path::decode_hex;

/// What stands before the random characters of a key or token, behind the prefix.
const MARKS: [&[u8]; 3] = [b"_live_", b"_test_", b"_token_"];
/// Bytes of the longest mark.
const LONGEST_MARK: usize = 7;
/// The fewest characters behind a mark that are taken for a secret.
const SHORTEST_SECRET: usize = 20;
/// What a secret is replaced by.
pub const REDACTED: &str = "***";

/// How often percent-encoding is undone: proxies and clients encode what is encoded already.
const MOST_DECODINGS: usize = 4;

/// One character of a text, as it reads once percent-encoding is undone.
#[derive(Clone, Copy)]
struct Character {
    byte: u8,
    start: usize,
    end: usize,
}

/// The letters and digits behind a mark.
struct Word {
    start: usize,
    length: usize,
}

/// Replaces what has the form of a key or token, whatever its prefix and wherever it stands, percent-encoded or not.
/// The mark stays, so that one sees what was there. One pass, however many marks there are.
pub(crate) fn blot_out(text: String) -> String {
    let clean = match blot_out_bytes(text.as_bytes()) {
        Cow::Borrowed(_) => None,
        // What is cut out and put in is ASCII, so that what stays is as good a text as it was.
        Cow::Owned(clean) => Some(String::from_utf8_lossy(&clean).into_owned()),
    };
    clean.unwrap_or(text)
}

/// The same for bytes that need not be a text.
pub(crate) fn blot_out_bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    // Every mark of a secret has an underscore, encoded or not.
    if !bytes.iter().any(|byte| matches!(byte, b'_' | b'%')) {
        return Cow::Borrowed(bytes);
    }
    let encoded = bytes.contains(&b'%');
    Cow::Owned(if encoded { blot(bytes, decoded(bytes)) } else { blot(bytes, characters(bytes)) })
}

fn blot(bytes: &[u8], characters: impl IntoIterator<Item = Character>) -> Vec<u8> {
    let between = |start: usize, end: usize| bytes.get(start..end).unwrap_or_default();
    let mut clean = Vec::with_capacity(bytes.len());
    let mut copied = 0;
    let mut recent = [0u8; LONGEST_MARK];
    let mut word: Option<Word> = None;
    for Character { byte, start, end } in characters {
        recent.rotate_left(1);
        recent[LONGEST_MARK - 1] = byte;
        if byte.is_ascii_alphanumeric() {
            if let Some(word) = &mut word {
                word.length += 1;
            }
            continue;
        }
        if let Some(secret) = word.take().filter(Word::is_secret) {
            clean.extend_from_slice(between(copied, secret.start));
            clean.extend_from_slice(REDACTED.as_bytes());
            copied = start;
        }
        // The underscore that ends one mark may begin the next one.
        if MARKS.iter().any(|mark| recent.ends_with(mark)) {
            word = Some(Word { start: end, length: 0 });
        }
    }
    if let Some(secret) = word.filter(Word::is_secret) {
        clean.extend_from_slice(between(copied, secret.start));
        clean.extend_from_slice(REDACTED.as_bytes());
        copied = bytes.len();
    }
    clean.extend_from_slice(between(copied, bytes.len()));
    clean
}

fn characters(text: &[u8]) -> impl Iterator<Item = Character> {
    text.iter().enumerate().map(|(at, byte)| Character { byte: *byte, start: at, end: at + 1 })
}

/// The characters of a text with percent-encoding undone, also where it was encoded several times.
fn decoded(text: &[u8]) -> Vec<Character> {
    let mut found: Vec<Character> = characters(text).collect();
    for _ in 0..MOST_DECODINGS {
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

// === impl Word ===

impl Word {
    fn is_secret(&self) -> bool {
        self.length >= SHORTEST_SECRET
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1";

    #[test]
    fn secrets_are_blotted_out_wherever_they_stand() {
        for (text, clean) in [
            ("/a/omf_live_S/b", "/a/omf_live_***/b"),
            ("omf_live_Somf_live_S", "omf_live_***_live_***"),
            ("omf_token_S", "omf_token_***"),
            ("sk_test_S?", "sk_test_***?"),
            ("_live_S\u{e9}", "_live_***\u{e9}"),
            // Percent-encoded.
            ("/omf%5Flive%5FS/", "/omf%5Flive%5F***/"),
            ("omf%5flive_S", "omf%5flive_***"),
            ("omf_live%5fS%2Fb", "omf_live%5f***%2Fb"),
            ("omf_l%69ve_%61S", "omf_l%69ve_***"),
            ("omf%5Ftoken%5FS%5Flive%5FS", "omf%5Ftoken%5F***%5Flive%5F***"),
            // Encoded twice and more often.
            ("/omf%255Flive%255FS/", "/omf%255Flive%255F***/"),
            ("omf%25255flive_S%25252fb", "omf%25255flive_***%25252fb"),
            ("omf%25%35flive_S", "omf%25%35flive_***"),
            // Marks that share an underscore.
            ("omf_live_test_S", "omf_live_test_***"),
            ("omf_live_live_S", "omf_live_live_***"),
            ("omf_test%5ftoken_S/x", "omf_test%5ftoken_***/x"),
            ("omf_live__live_S", "omf_live__live_***"),
        ] {
            assert_eq!(blot_out(text.replace('S', SECRET)), clean.replace('S', SECRET), "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let longest = &SECRET[..SHORTEST_SECRET - 1];
        for text in [
            "",
            "/a/x_live_short/b_test_",
            "%",
            "%5",
            "_live_%5",
            "_live_%zz",
            "live_",
            "\u{e9}_live_\u{e9}",
            SECRET,
            &format!("_live_{longest}"),
            &format!("_live_{longest}_{longest}"),
            &format!("_LIVE_{SECRET}"),
        ] {
            assert_eq!(blot_out(text.to_owned()), text);
        }
    }

    /// The text with percent-encoding undone, as far as it is ASCII.
    fn read(text: &str) -> String {
        decoded(text.as_bytes()).iter().map(|character| char::from(character.byte)).collect()
    }

    fn has_secret(text: &str) -> bool {
        let text = read(text);
        MARKS.iter().any(|mark| {
            let mark = core::str::from_utf8(mark).unwrap();
            (0..text.len()).filter_map(|at| text.get(at..)?.strip_prefix(mark)).any(|behind| {
                behind.chars().take_while(char::is_ascii_alphanumeric).count() >= SHORTEST_SECRET
            })
        })
    }

    proptest! {
        #[test]
        fn no_secret_is_left_and_nothing_else_is_lost(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "_live_", "_test_", "_token_", "_", "%5F", "%5f", "live", "test", "token", "omf", "%6", "%",
                    "/", "\u{e9}", "%61", SECRET,
                ]),
                0..30,
            ),
        ) {
            let text = pieces.concat();
            let clean = blot_out(text.clone());
            prop_assert!(!has_secret(&clean), "{} of {}", clean, text);
            prop_assert_eq!(clean == text, !has_secret(&text));
            prop_assert_eq!(blot_out(clean.clone()), clean);
        }

        #[test]
        fn any_text_is_taken(text: String) {
            let _ = blot_out(text);
        }
    }
}
