//! Names of fields, compared as the most lenient server would.

use omniflow_policy::payload::{ANY_NAME, FieldPointer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A field pointer whose names are normalized.
pub(super) struct FieldPath(Vec<String>);

// === impl FieldPath ===

impl FieldPath {
    pub(super) fn new(pointer: &FieldPointer) -> Self {
        Self(pointer.tokens().iter().map(|name| normalize(name)).collect())
    }

    pub(super) fn names(&self) -> &[String] {
        &self.0
    }

    /// The names below the field of a form with these normalized names; empty for the field itself and one within it. `None` if the
    /// path leads elsewhere.
    pub(super) fn below(&self, names: &[String]) -> Option<&[String]> {
        below(&self.0, names)
    }
}

/// A name of a number, or an empty one as in `list[]=`, may be the index of a list, which a path need not state.
fn below<'p>(path: &'p [String], names: &[String]) -> Option<&'p [String]> {
    let Some((token, rest)) = path.split_first() else { return Some(path) };
    let Some((name, deeper)) = names.split_first() else { return Some(path) };
    let named = if matches(token, name) { below(rest, deeper) } else { None };
    let indexed = || if is_index(name) { below(path, deeper) } else { None };
    // The one that reaches further redacts more.
    match named {
        Some([]) => named,
        _ => indexed().filter(|names| names.is_empty()).or(named).or_else(indexed),
    }
}

/// Whether a normalized name of a path matches a normalized name.
pub(super) fn matches(token: &str, name: &str) -> bool {
    token == ANY_NAME || token == name
}

fn is_index(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Removes every difference that servers or their databases may ignore: case, compatibility forms such as full-width letters and
/// `ſ`, combining marks, characters without a width, and space around the name.
pub(super) fn normalize(name: &str) -> String {
    if name.is_ascii() {
        return name.trim().to_ascii_lowercase();
    }
    // `ß` and `ss`, `ı` and `i` only meet in upper case, and `ẞ` only in lower case.
    let lower = decompose(name).to_lowercase().to_uppercase().to_lowercase();
    decompose(&lower).trim().to_owned()
}

fn decompose(text: &str) -> String {
    text.nfkd().filter(|character| !is_combining_mark(*character) && !is_invisible(*character)).collect()
}

/// Characters that are not displayed (`Default_Ignorable_Code_Point` of Unicode 17, without unassigned ones).
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pointer: &str, names: &[&str]) -> bool {
        let names: Vec<String> = names.iter().map(|name| normalize(name)).collect();
        FieldPath::new(&pointer.parse().unwrap()).below(&names).is_some_and(<[String]>::is_empty)
    }

    #[test]
    fn a_path_covers_the_fields_below_it() {
        assert!(covers("/card", &["card"]) && covers("/card", &["card", "number"]));
        assert!(covers("/items/*/pin", &["items", "0", "pin"]) && covers("/items/0", &["items", "0"]));
        assert!(covers("/items/pin", &["items", "", "pin"]) && covers("/items/pin", &["items", "7", "pin"]));
        assert!(!covers("/card/number", &["card"]) && !covers("/card", &["cards"]));
        assert!(!covers("/items/1", &["items", "0"]));
    }

    #[test]
    fn names_that_a_server_may_take_for_each_other_are_equal() {
        for name in [
            "PassWord",
            " password\t",
            "paſſword",
            "ｐａｓｓｗｏｒｄ",
            "ＰＡＳＳＷＯＲＤ",
            "𝐩𝐚𝐬𝐬𝐰𝐨𝐫𝐝",
            "ⓟⓐⓢⓢⓦⓞⓡⓓ",
            "paßword",
            "paẞword",
            "pässwörd",
            "pass\u{200b}word",
            "pass\u{ad}word",
            "\u{feff}password",
            "pa\u{301}ssword",
        ] {
            assert_eq!(normalize(name), "password", "{name}");
        }
        for (name, normalized) in [("pıN", "pin"), ("PİN", "pin"), ("toKen", "token"), ("ﬁeld", "field")]
        {
            assert_eq!(normalize(name), normalized, "{name}");
        }
        assert_ne!(normalize("pаssword"), "password", "a Cyrillic letter is another one to every server");
    }
}
