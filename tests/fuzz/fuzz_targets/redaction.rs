//! What is kept of a call contains neither a key, encoded or not, nor the value of a field that is to be redacted.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use omniflow_conformance::readings::decode;
use omniflow_policy::audit::{MAX_PATH, clip};
use omniflow_domain::encoded_text::search;
use omniflow_domain::payload::{redact, redact_secrets};
use omniflow_policy::payload::{CallPayload, FieldPointer, PayloadState};
use serde_json::{Map, Value};

/// A secret that no fuzzer generates by chance, with the characters of a key.
const SECRET: &str = "Zq7Zq8Zq9Zq1Zq2Zq3Zq4Zq5Zq6Zq7Zq8Zq9Zq1Zq2Zq3Z";

#[derive(Arbitrary, Debug)]
struct Case {
    before: String,
    after: String,
    encoding: u8,
    shape: Shape,
    form: bool,
    bytes: Vec<u8>,
}

/// The location of the secret in a document.
#[derive(Arbitrary, Debug)]
enum Shape {
    Field,
    Member(String, Box<Shape>),
    Beside(String, String, Box<Shape>),
}

fuzz_target!(|case: Case| {
    redacted(&case);
    encoded(&case.bytes, case.encoding);
    let field: FieldPointer = "/card/*/secret".parse().expect("a pointer");
    // Any bytes at all, under any name.
    let any = payload(
        case.bytes.clone(),
        if case.form { "application/x-www-form-urlencoded" } else { "text/plain" },
    );
    let kept = redact(any.clone(), &[field.clone()]);
    assert!(kept.state != PayloadState::Whole || kept.body.is_empty() == any.body.is_empty());

    let document = case.shape.document(0);
    let pointed: FieldPointer = case.shape.pointer().parse().expect("a pointer");
    let body = document.to_string().into_bytes();
    for media_type in ["application/json", "application/x-www-form-urlencoded", ""] {
        let kept = redact(payload(body.clone(), media_type), &[pointed.clone(), field.clone()]);
        assert!(!holds(&kept.body), "{}", String::from_utf8_lossy(&kept.body));
    }
});

/// A key in a text, with its characters encoded in any way.
fn redacted(case: &Case) {
    let before: String = case.before.chars().take(200).collect();
    // The fuzzer learns the secret from the comparisons of this target. Without a marker before it, the secret could
    // not be recognized.
    let (mut around, other) = (before.clone().into_bytes(), case.after.as_bytes());
    around.extend_from_slice(other);
    for _ in 0..4 {
        if holds(&around) {
            return;
        }
        around = decode(&around);
    }
    let mark = ["_live_", "_test_", "_token_"][usize::from(case.encoding) % 3];
    let key: String = format!("{mark}{SECRET}")
        .chars()
        .enumerate()
        .map(|(at, c)| match (usize::from(case.encoding) >> (at % 7)) & 1 {
            0 => c.to_string(),
            _ => format!("%{:02x}", c as u32),
        })
        .collect();
    for encoded in [key.clone(), key.replace('%', "%25")] {
        let kept = clip(format!("/{before}/omf{encoded}/{}", case.after).as_bytes(), MAX_PATH);
        let once = decode(kept.as_bytes());
        assert!(!holds(kept.as_bytes()) && !holds(&once) && !holds(&decode(&once)), "{kept}");
    }
}

/// Any bytes cost no more than the limit of a search, and what was redacted has nothing left to redact. A key in a text is redacted in
/// each encoding.
fn encoded(bytes: &[u8], encoding: u8) {
    let mut decoded = 0;
    let _ = search(bytes, |view| decoded += view.bytes().len());
    assert!(decoded <= 33 * bytes.len() + 256 * 1024);
    let key = format!("omf_live_{SECRET}");
    let text = match encoding % 4 {
        0 => key.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        1 => key.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
        2 => key.bytes().map(|byte| format!("&#{byte};")).collect(),
        _ => key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>(),
    };
    let whole = [bytes, b" ", text.as_bytes(), b" "].concat();
    if let Some(kept) = redact_secrets(&whole) {
        assert!(!kept.windows(text.len()).any(|window| window == text.as_bytes()));
    }
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

fn payload(body: Vec<u8>, media_type: &str) -> CallPayload {
    CallPayload {
        query: Vec::new(),
        body,
        state: PayloadState::Whole,
        media_type: media_type.to_owned(),
        content_encoding: String::new(),
    }
}

// === impl Shape ===

impl Shape {
    fn document(&self, depth: u8) -> Value {
        let object = |members: Vec<(String, Value)>| Value::Object(Map::from_iter(members));
        match self {
            Self::Member(name, below) if depth < 6 => object(vec![(short(name), below.document(depth + 1))]),
            Self::Beside(name, other, below) if depth < 6 => object(vec![
                (format!("{}#", short(other)), Value::from(short(other))),
                (short(name), below.document(depth + 1)),
            ]),
            _ => object(vec![("secret".to_owned(), Value::from(SECRET))]),
        }
    }

    fn pointer(&self) -> String {
        let mut text = String::new();
        let mut shape = self;
        for _ in 0..6 {
            match shape {
                Self::Member(name, below) | Self::Beside(name, _, below) => {
                    text.push_str(&format!("/{}", short(name).replace('~', "~0").replace('/', "~1")));
                    shape = below;
                }
                Self::Field => break,
            }
        }
        text + "/secret"
    }
}

/// Short enough for a pointer, and without white space around it, which pointers are read without.
fn short(name: &str) -> String {
    let name: String = name.trim().chars().take(6).collect();
    let name = name.trim().to_owned();
    // `*` matches everything, which is valid but not informative.
    if name == "*" { "x".to_owned() } else { name }
}
