//! Finds keys in a text, such as a log, a commit or a message.

use alloc::format;

use crate::key::{Environment, KeyPrefix, MalformedKey, SECRET_LENGTH};

/// Minimum number of letters and digits after `omf_live_` for a match. Shorter ones are common in
/// documentation.
const MIN_BODY_LENGTH: usize = 20;
/// Minimum length in bytes of a token that is looked up although it does not match the grammar of keys.
const MIN_TOKEN_LENGTH: usize = 12;
/// Maximum length in bytes of such a token: gateways do not look up longer ones.
const MAX_TOKEN_LENGTH: usize = 512;

/// A part of a text that starts like a key. It may be a secret, so it does not implement `Debug`.
#[derive(Clone, Copy)]
pub struct KeyMatch<'a> {
    /// The key, or the part of it that is present.
    pub text: &'a str,
    /// The environment, if format and checksum are valid.
    pub environment: Result<Environment, MalformedKey>,
}

/// Finds all keys of an installation in a text, in order, whatever surrounds them, and truncated or mistyped
/// keys.
pub fn find_keys<'a>(prefix: &'a KeyPrefix, text: &'a str) -> impl Iterator<Item = KeyMatch<'a>> {
    let head = format!("{}_", prefix.as_str());
    let mut rest = text;
    core::iter::from_fn(move || {
        loop {
            let here = rest.get(rest.find(head.as_str())?..)?;
            let found = match_key(prefix, here, head.len());
            // The end of a truncated key may be the start of another key.
            let key = found.filter(|found| found.environment.is_ok());
            rest = here.get(key.map_or(head.len(), |key| key.text.len())..)?;
            if found.is_some() {
                return found;
            }
        }
    })
}

/// Matches a key at the start of a text.
fn match_key<'a>(prefix: &KeyPrefix, text: &'a str, head: usize) -> Option<KeyMatch<'a>> {
    let after = text.get(head..)?;
    let start = [Environment::Live, Environment::Test].into_iter().find_map(|environment| {
        let rest = after.strip_prefix(environment.as_str())?.strip_prefix('_')?;
        Some(text.len() - rest.len())
    })?;
    let body = text.get(start..)?.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let end = start + SECRET_LENGTH;
    // A key is a key even if letters or digits follow it directly.
    if body >= SECRET_LENGTH
        && let Some(key) = text.get(..end)
        && let Ok(environment) = prefix.check(key.as_bytes())
    {
        return Some(KeyMatch { text: key, environment: Ok(environment) });
    }
    let text = text.get(..start + body)?;
    (body >= MIN_BODY_LENGTH).then_some(KeyMatch { text, environment: Err(MalformedKey) })
}

/// Finds the tokens of a text that may be keys in the format of another system, which only a lookup of the
/// digest can confirm. The text is split in three ways: at spaces, commas and quotes; into the characters of
/// Base64 and URLs; and into letters, digits, `_` and `-`. So a key is found after `KEY=`, in JSON, and in a
/// query string.
pub fn find_tokens(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split(|c: char| {
        !c.is_ascii_graphic()
            || matches!(c, ',' | '"' | '\'' | '`' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}')
    });
    let encoded = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_-.~+/=".contains(c));
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    quoted
        .chain(encoded)
        .chain(words)
        .filter(|token| (MIN_TOKEN_LENGTH..=MAX_TOKEN_LENGTH).contains(&token.len()))
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::key::{compose_key, compose_token};

    fn key(seed: u8, environment: Environment) -> String {
        let mut next = seed;
        let secret = compose_key(&KeyPrefix::default(), environment, &mut || {
            next = next.wrapping_mul(181).wrapping_add(97);
            next
        });
        secret.expose().to_string()
    }

    fn found(text: &str) -> Vec<(String, bool)> {
        let prefix = KeyPrefix::default();
        find_keys(&prefix, text).map(|one| (one.text.to_string(), one.environment.is_ok())).collect()
    }

    #[test]
    fn keys_are_found_at_any_position() {
        let (live, test) = (key(1, Environment::Live), key(2, Environment::Test));
        for text in [
            format!("{live}{test}"),
            format!("curl -H 'X-API-Key: {live}'\n# then {test}."),
            format!("{{\"key\":\"{live}\",\"other\":\"{test}\"}}"),
            format!("é{live}é{test}é"),
            format!("xomf_{live}_{test}abc"),
            format!("omf_live_omf_live_{live}%20omf_test_{test}=="),
        ] {
            assert_eq!(found(&text), [(live.clone(), true), (test.clone(), true)], "{text}");
        }
    }

    #[test]
    fn truncated_and_mistyped_keys_are_found_as_malformed() {
        let key = key(1, Environment::Live);
        let mistyped = key.replacen("omf_live_", "omf_test_", 1);
        let (short, shorter) = (&key[..40], &key[..28]);
        assert_eq!(
            found(&format!("{mistyped} {short} {shorter} omf_live_ omf_")),
            [(mistyped, false), (short.to_string(), false)]
        );
        let glued = format!("omf_live_{}{key}", "a".repeat(MIN_BODY_LENGTH));
        assert!(found(&glued).contains(&(key.clone(), true)));
        let token = compose_token(&KeyPrefix::default(), &mut || 7);
        assert_eq!(found(token.expose()), []);
        assert_eq!(found(&key.replacen("omf", "abc", 1)), []);
    }

    #[test]
    fn keys_of_other_systems_are_among_the_tokens() {
        for text in [
            "sk_live_4eC39HqLyjWDarjt",
            "KEY=sk_live_4eC39HqLyjWDarjt;",
            "{\"key\":\"sk_live_4eC39HqLyjWDarjt\"}",
            "GET /x?key=sk_live_4eC39HqLyjWDarjt&y=1 HTTP/1.1",
            "see sk_live_4eC39HqLyjWDarjt.",
        ] {
            assert!(find_tokens(text).any(|token| token == "sk_live_4eC39HqLyjWDarjt"), "{text}");
        }
        for token in ["YWJj/ZGVm+Z2hpamts==", "a:b!c$d%e#f^g&h*i"] {
            assert!(find_tokens(&format!("the key is '{token}'")).any(|found| found == token), "{token}");
        }
        assert_eq!(find_tokens("a few short words").count(), 0);
        assert_eq!(find_tokens(&"x".repeat(MAX_TOKEN_LENGTH + 1)).count(), 0);
    }

    proptest! {
        #[test]
        fn keys_are_found_in_arbitrary_text(before: String, after: String, seed: u8) {
            let key = key(seed, Environment::Test);
            let text = format!("{before}{key}{after}");
            prop_assert!(found(&text).contains(&(key, true)));
            let _ = find_tokens(&text).count();
        }
    }
}
