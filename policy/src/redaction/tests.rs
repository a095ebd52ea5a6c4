#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use proptest::prelude::*;

use super::*;

const SECRET: &str = "a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1";

#[test]
fn secrets_are_redacted_at_any_position() {
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
        // Markers that share an underscore.
        ("omf_live_test_S", "omf_live_test_***"),
        ("omf_live_live_S", "omf_live_live_***"),
        ("omf_test%5ftoken_S/x", "omf_test%5ftoken_***/x"),
        ("omf_live__live_S", "omf_live__live_***"),
    ] {
        assert_eq!(redact(text.replace('S', SECRET)), clean.replace('S', SECRET), "{text}");
    }
}

#[test]
fn other_texts_are_unchanged() {
    let longest = &SECRET[..MIN_SECRET_LENGTH - 1];
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
        assert_eq!(redact(text.to_owned()), text);
    }
}

/// The percent-decoded text, if it is ASCII.
fn decode(text: &str) -> String {
    decoded(text.as_bytes()).iter().map(|character| char::from(character.byte)).collect()
}

fn has_secret(text: &str) -> bool {
    let text = decode(text);
    MARKERS.iter().any(|marker| {
        let marker = core::str::from_utf8(marker).unwrap();
        (0..text.len())
            .filter_map(|at| text.get(at..)?.strip_prefix(marker))
            .any(|after| after.chars().take_while(char::is_ascii_alphanumeric).count() >= MIN_SECRET_LENGTH)
    })
}

proptest! {
    #[test]
    fn every_secret_is_redacted_and_nothing_else_changes(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "_live_", "_test_", "_token_", "_", "%5F", "%5f", "live", "test", "token", "omf", "%6", "%",
                "/", "\u{e9}", "%61", SECRET,
            ]),
            0..30,
        ),
    ) {
        let text = pieces.concat();
        let clean = redact(text.clone());
        prop_assert!(!has_secret(&clean), "{} of {}", clean, text);
        prop_assert_eq!(clean == text, !has_secret(&text));
        prop_assert_eq!(redact(clean.clone()), clean);
    }

    #[test]
    fn arbitrary_text_never_panics(text: String) {
        let _ = redact(text);
    }
}
