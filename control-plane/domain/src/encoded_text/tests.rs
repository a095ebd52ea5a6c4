use std::io::Write;

use ::base64::Engine;
use ::base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use omniflow_policy::key::{Environment, KeyPrefix, compose_key};
use omniflow_policy::scan::find_keys;
use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> String {
    let mut next = seed;
    let secret = compose_key(&KeyPrefix::default(), Environment::Live, &mut || {
        next = next.wrapping_mul(181).wrapping_add(97);
        next
    });
    secret.expose().to_owned()
}

/// Whether a search finds the key.
fn finds(text: &[u8], key: &str) -> bool {
    let mut found = false;
    let _ = search(text, |view| {
        let text = String::from_utf8_lossy(view.bytes());
        found |=
            find_keys(&KeyPrefix::default(), &text).any(|one| one.text == key && one.environment.is_ok());
    });
    found
}

/// The encodings that a search decodes.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    Base64,
    Base64WithoutPadding,
    Base64Url,
    Base64UrlWithoutPadding,
    /// With line breaks, as in mail.
    Base64Lines,
    Percent,
    PercentAll,
    Json,
    JsonAll,
    Html,
    HtmlHexadecimal,
    Hex,
    HexDump,
    Utf16Le,
    Utf16Be,
    Gzip,
    Zlib,
    Lines,
}

const ENCODINGS: [Encoding; 18] = {
    use Encoding::*;
    [
        Base64,
        Base64WithoutPadding,
        Base64Url,
        Base64UrlWithoutPadding,
        Base64Lines,
        Percent,
        PercentAll,
        Json,
        JsonAll,
        Html,
        HtmlHexadecimal,
        Hex,
        HexDump,
        Utf16Le,
        Utf16Be,
        Gzip,
        Zlib,
        Lines,
    ]
};

fn lines(text: &[u8], width: usize, end: &str) -> Vec<u8> {
    text.chunks(width).collect::<Vec<_>>().join(end.as_bytes())
}

/// Encodes each character of a text, or each byte if it is none.
fn each(text: &[u8], all: bool, encode: impl Fn(u32) -> String) -> Vec<u8> {
    let code = |code: u32| match char::from_u32(code) {
        Some(c) if !all && c.is_ascii_alphanumeric() => c.to_string(),
        _ => encode(code),
    };
    match std::str::from_utf8(text) {
        Ok(text) => text.chars().map(|c| code(u32::from(c))).collect::<String>().into_bytes(),
        Err(_) => text.iter().map(|byte| code(u32::from(*byte))).collect::<String>().into_bytes(),
    }
}

impl Encoding {
    /// Whether only texts have this encoding.
    fn is_of_text(self) -> bool {
        use Encoding::{Html, HtmlHexadecimal, Json, JsonAll, Lines, Utf16Be, Utf16Le};
        matches!(self, Json | JsonAll | Html | HtmlHexadecimal | Utf16Le | Utf16Be | Lines)
    }

    fn encode(self, text: &[u8]) -> Vec<u8> {
        let percent = |all: bool| {
            let encode = |byte: &u8| match byte {
                byte if !all && byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
                byte => format!("%{byte:02x}"),
            };
            text.iter().map(encode).collect::<String>().into_bytes()
        };
        let utf16 = || String::from_utf8_lossy(text).encode_utf16().collect::<Vec<u16>>();
        match self {
            Self::Base64 => STANDARD.encode(text).into_bytes(),
            Self::Base64WithoutPadding => STANDARD_NO_PAD.encode(text).into_bytes(),
            Self::Base64Url => URL_SAFE.encode(text).into_bytes(),
            Self::Base64UrlWithoutPadding => URL_SAFE_NO_PAD.encode(text).into_bytes(),
            Self::Base64Lines => lines(STANDARD.encode(text).as_bytes(), 76, "\r\n"),
            Self::Percent => percent(false),
            Self::PercentAll => percent(true),
            Self::Json => {
                serde_json::json!({ "text": String::from_utf8_lossy(text) }).to_string().into_bytes()
            }
            Self::JsonAll => each(text, true, |code| match u16::try_from(code) {
                Ok(code) => format!("\\u{code:04x}"),
                Err(_) => "\\ud83d\\ude00".to_owned(),
            }),
            Self::Html => each(text, false, |code| format!("&#{code};")),
            Self::HtmlHexadecimal => each(text, true, |code| format!("&#x{code:X};")),
            Self::Hex => ::hex::encode(text).into_bytes(),
            Self::HexDump => text.iter().map(|byte| format!("{byte:02X} ")).collect::<String>().into_bytes(),
            Self::Utf16Le => utf16().into_iter().flat_map(u16::to_le_bytes).collect(),
            Self::Utf16Be => utf16().into_iter().flat_map(u16::to_be_bytes).collect(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zlib => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Self::Lines => lines(text, 20, "\n    "),
        }
    }
}

#[test]
fn keys_are_found_in_every_encoding_and_every_pair_of_them() {
    let key = key(7);
    let text = format!("user:{key}, and more");
    for inner in ENCODINGS {
        let once = inner.encode(text.as_bytes());
        assert!(finds(&once, &key), "{inner:?}");
        for outer in ENCODINGS {
            if outer.is_of_text() && std::str::from_utf8(&once).is_err() {
                continue;
            }
            assert!(finds(&outer.encode(&once), &key), "{inner:?} in {outer:?}");
        }
    }
}

#[test]
fn encoded_keys_are_found_within_words_and_lines() {
    let key = key(7);
    let basic = STANDARD.encode(format!("partner:{key}"));
    for text in [
        format!("Authorization: Basic {basic}\r\n"),
        format!("x{basic}y"),
        format!("xy-{basic}"),
        format!("xyz/{basic}"),
        format!("> {}\n> {}", &basic[..30], &basic[30..]),
        format!("curl -H 'X-API-Key: {}\\\n{}'", &key[..30], &key[30..]),
        format!("key={}=\r\n{}", &key[..12], &key[12..]),
        key.replace('_', "&lowbar;"),
        key.replace('_', "%255f"),
        key.replace('_', "%u005f"),
        key.replace('_', "\\\\u005f"),
        key.replace('_', "\\x5f"),
        key.replace('_', "&amp;#95"),
        format!("\u{fffd}\u{fffd}{}", key.chars().map(|c| format!("{c}\0")).collect::<String>()),
        key.bytes().map(|byte| format!("{byte:02x}:")).collect(),
        format!("0{}", ::hex::encode(&key)),
    ] {
        assert!(finds(text.as_bytes(), &key), "{text}");
    }
}

#[test]
fn plain_texts_are_visited_once() {
    for text in
        ["", "a plain text", "omf_live_abc omf_test_def", "GET /api/v1/contacts?q=1 HTTP/1.1", "\u{1f511}"]
    {
        let mut views = Vec::new();
        assert!(search(text.as_bytes(), |view| views.push(view.bytes().to_vec())));
        assert_eq!(views, [text.as_bytes()]);
    }
}

/// Bytes that a search visits, and whether it was complete.
fn work(text: &[u8]) -> (usize, bool) {
    let mut bytes = 0;
    let is_complete = search(text, |view| bytes += view.bytes().len());
    (bytes, is_complete)
}

#[test]
fn hostile_texts_cost_no_more_than_the_limit() {
    let gzip = |text: &[u8]| Encoding::Gzip.encode(text);
    let bomb = gzip(&gzip(&vec![0; 50_000_000]));
    let mut nested = vec![b'A'; 100_000];
    for _ in 0..6 {
        nested = STANDARD.encode(&nested).into_bytes();
        nested.truncate(100_000);
    }
    for (name, text) in [
        ("bomb", bomb.clone()),
        ("bomb in base64", STANDARD.encode(&bomb).into_bytes()),
        ("magic bytes", [0x1f, 0x8b, 8].repeat(50_000)),
        ("zeros in base64", vec![b'A'; 200_000]),
        ("base64 in base64", nested),
        ("percent", b"%25".repeat(50_000)),
        ("mixed", b"%25\\u0025&#37;\n3333333333333333333333333333333=".repeat(3_000)),
        ("short runs", b"AAAAAAAAAAAAAAAA=".repeat(10_000)),
        ("lines", b"\n>a".repeat(50_000)),
    ] {
        let (bytes, _) = work(&text);
        let limit = (text.len() * (1 + MAX_EXPANSION)).max(MIN_BUDGET + text.len());
        assert!(bytes <= limit, "{name}: {bytes} of {limit}");
    }
    assert!(!work(&gzip(&vec![0; 50_000_000])).1, "a search that was cut short is not complete");
    let line = |number: u64| {
        let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "10.0.0.{} GET /contacts/a%20{number}?x={id} 200 {{\"id\":\"{id:x}\",\"text\":\"line\\nline\"}}\n",
            id % 256
        )
    };
    let log: String = (0..2_000).map(line).collect();
    assert!(work(log.as_bytes()).1 && work(&gzip(log.as_bytes())).1, "a log is searched completely");
}

proptest! {
    #[test]
    fn keys_are_found_in_any_chain_of_two_encodings(
        before: String,
        after: String,
        seed: u8,
        inner in prop::sample::select(ENCODINGS.to_vec()),
        outer in prop::option::of(prop::sample::select(ENCODINGS.to_vec())),
    ) {
        let key = key(seed);
        let mut text = inner.encode(format!("{before} {key} {after}").as_bytes());
        if let Some(outer) = outer.filter(|outer| !outer.is_of_text() || std::str::from_utf8(&text).is_ok()) {
            text = outer.encode(&text);
        }
        prop_assert!(finds(&text, &key), "{:?}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_are_bounded(bytes: Vec<u8>) {
        prop_assert!(work(&bytes).0 <= bytes.len() * (1 + MAX_EXPANSION) + MIN_BUDGET);
    }
}
