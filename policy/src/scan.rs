//! Keys that stand in a text: a log, a commit, a message.

use alloc::format;

use crate::key::{BODY_LENGTH, Environment, KeyPrefix, MalformedKey};

/// The fewest letters and digits behind `omf_live_` that mean to be a key. Fewer stand in every manual.
const SHORTEST_BODY: usize = 20;
/// The fewest bytes of a token that is looked up though it has not the form of a key.
const SHORTEST_TOKEN: usize = 12;
/// The most bytes of such a token, as gateways look up no longer one.
const LONGEST_TOKEN: usize = 512;

/// What stands in a text and begins as a key does. It may be a secret: no Debug.
#[derive(Clone, Copy)]
pub struct Finding<'a> {
    /// The key, or what there is of it.
    pub text: &'a str,
    /// The environment of a key whose form and checksum are right.
    pub form: Result<Environment, MalformedKey>,
}

/// All keys of an installation in a text, in order, whatever stands before and behind them, and what begins as one and
/// is none: cut short, or mistyped.
pub fn keys_in<'a>(prefix: &'a KeyPrefix, text: &'a str) -> impl Iterator<Item = Finding<'a>> {
    let head = format!("{}_", prefix.as_str());
    let mut rest = text;
    core::iter::from_fn(move || {
        loop {
            let here = rest.get(rest.find(head.as_str())?..)?;
            let found = finding(prefix, here, head.len());
            // The end of what is cut short may be the beginning of a key.
            let key = found.filter(|found| found.form.is_ok());
            rest = here.get(key.map_or(head.len(), |key| key.text.len())..)?;
            if found.is_some() {
                return found;
            }
        }
    })
}

/// What a text begins with, where that means to be a key.
fn finding<'a>(prefix: &KeyPrefix, text: &'a str, head: usize) -> Option<Finding<'a>> {
    let after = text.get(head..)?;
    let mark = [Environment::Live, Environment::Test].into_iter().find_map(|environment| {
        let rest = after.strip_prefix(environment.as_str())?.strip_prefix('_')?;
        Some(text.len() - rest.len())
    })?;
    let body = text.get(mark..)?.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let whole = mark + BODY_LENGTH;
    // What follows a key without a gap does not make it another.
    if body >= BODY_LENGTH
        && let Some(key) = text.get(..whole)
        && let Ok(environment) = prefix.check(key.as_bytes())
    {
        return Some(Finding { text: key, form: Ok(environment) });
    }
    let text = text.get(..mark + body)?;
    (body >= SHORTEST_BODY).then_some(Finding { text, form: Err(MalformedKey) })
}

/// The words of a text that may be keys of another form, which only their digest tells. A word is read in three ways:
/// between spaces, commas and quotes; as the characters of Base64 and of URLs; and as letters, digits, `_` and `-`. So a
/// key is found behind `KEY=`, in JSON, and in a query string.
pub fn tokens_in(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split(|c: char| {
        !c.is_ascii_graphic()
            || matches!(c, ',' | '"' | '\'' | '`' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}')
    });
    let encoded = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_-.~+/=".contains(c));
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    quoted.chain(encoded).chain(words).filter(|token| (SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&token.len()))
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
        keys_in(&prefix, text).map(|one| (one.text.to_string(), one.form.is_ok())).collect()
    }

    #[test]
    fn keys_are_found_wherever_they_stand() {
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
    fn what_only_begins_as_a_key_is_told_apart() {
        let key = key(1, Environment::Live);
        let mistyped = key.replacen("omf_live_", "omf_test_", 1);
        let (short, shorter) = (&key[..40], &key[..28]);
        assert_eq!(
            found(&format!("{mistyped} {short} {shorter} omf_live_ omf_")),
            [(mistyped, false), (short.to_string(), false)]
        );
        let glued = format!("omf_live_{}{key}", "a".repeat(SHORTEST_BODY));
        assert!(found(&glued).contains(&(key.clone(), true)));
        let token = compose_token(&KeyPrefix::default(), &mut || 7);
        assert_eq!(found(token.expose()), []);
        assert_eq!(found(&key.replacen("omf", "abc", 1)), []);
    }

    #[test]
    fn keys_of_another_form_are_among_the_words() {
        for text in [
            "sk_live_4eC39HqLyjWDarjt",
            "KEY=sk_live_4eC39HqLyjWDarjt;",
            "{\"key\":\"sk_live_4eC39HqLyjWDarjt\"}",
            "GET /x?key=sk_live_4eC39HqLyjWDarjt&y=1 HTTP/1.1",
            "see sk_live_4eC39HqLyjWDarjt.",
        ] {
            assert!(tokens_in(text).any(|token| token == "sk_live_4eC39HqLyjWDarjt"), "{text}");
        }
        for token in ["YWJj/ZGVm+Z2hpamts==", "a:b!c$d%e#f^g&h*i"] {
            assert!(tokens_in(&format!("the key is '{token}'")).any(|found| found == token), "{token}");
        }
        assert_eq!(tokens_in("a few short words").count(), 0);
        assert_eq!(tokens_in(&"x".repeat(LONGEST_TOKEN + 1)).count(), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_hides_no_key(before: String, after: String, seed: u8) {
            let key = key(seed, Environment::Test);
            let text = format!("{before}{key}{after}");
            prop_assert!(found(&text).contains(&(key, true)));
            let _ = tokens_in(&text).count();
        }
    }
}
