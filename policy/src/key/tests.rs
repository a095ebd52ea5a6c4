#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use proptest::prelude::*;

use super::*;

fn counting() -> impl FnMut() -> u8 {
    let mut next = 0u8;
    move || {
        next = next.wrapping_add(89);
        next
    }
}

#[test]
fn a_generated_key_matches_the_grammar() {
    let prefix = KeyPrefix::default();
    for environment in [Environment::Live, Environment::Test] {
        let key = compose_key(&prefix, environment, &mut counting());
        assert_eq!(key.expose().len(), 55);
        assert!(key.expose().starts_with(&format!("omf_{environment}_")));
        assert_eq!(prefix.check(key.expose().as_bytes()), Ok(environment));
        assert_eq!(key.hint().len(), 4);
        assert_eq!(format!("{key:?}"), "Secret(redacted)");
    }
}

#[test]
fn a_known_key_keeps_its_checksum() {
    // Golden: keys in the field must stay valid. Python's zlib.crc32 of the first 49 characters is
    // 0x778AE773.
    let covered = "omf_live_abcdefghijklmnopqrstuvwxyz0123456789ABCD";
    let key = format!("{covered}2BjG4p");
    assert_eq!(checksum(covered.as_bytes()), *b"2BjG4p");
    assert_eq!(KeyPrefix::default().check(key.as_bytes()), Ok(Environment::Live));
}

#[test]
fn variations_of_a_key_are_rejected() {
    let prefix = KeyPrefix::default();
    let key = compose_key(&prefix, Environment::Live, &mut counting());
    let text = key.expose();
    let variants = [
        String::new(),
        format!("{text}x"),
        format!("x{text}"),
        format!(" {text}"),
        format!("{text} "),
        text.to_uppercase(),
        text.to_lowercase(),
        text.replacen("live", "test", 1),
        text.replacen("omf", "abc", 1),
        text[..54].to_string(),
        key.digest().to_hex(),
        text.replacen("omf_", "omf__", 1),
        format!("{}\u{0}", &text[..54]),
    ];
    for variant in variants {
        assert_eq!(prefix.check(variant.as_bytes()), Err(MalformedKey), "{variant:?}");
    }
    let token = compose_token(&prefix, &mut counting());
    assert_eq!(prefix.check(token.expose().as_bytes()), Err(MalformedKey), "a token is not a key");
}

#[test]
fn prefixes_are_validated() {
    for good in ["omf", "a1", "acmecorp0123"] {
        assert!(KeyPrefix::parse(good).is_ok(), "{good}");
    }
    for bad in ["", "a", "OMF", "1a", "a_b", "abcdefghijklm", "ä1"] {
        assert_eq!(KeyPrefix::parse(bad), Err(InvalidKeyPrefix), "{bad}");
    }
}

proptest! {
    #[test]
    fn a_key_with_one_changed_character_is_rejected(seed: u8, at in 0usize..55, to: u8) {
        let mut next = seed;
        let key = compose_key(&KeyPrefix::default(), Environment::Test, &mut || {
            next = next.wrapping_mul(181).wrapping_add(97);
            next
        });
        let mut bytes = key.expose().as_bytes().to_vec();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        prop_assert_eq!(KeyPrefix::default().check(&bytes), Err(MalformedKey));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = KeyPrefix::default().check(&bytes);
    }
}
