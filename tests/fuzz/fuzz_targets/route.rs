//! The filter's interpretation of a path, compared with all interpretations by servers: a path that is allowed for a
//! route leads to that route, or to none, however the upstream interprets it.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use omniflow_conformance::readings::{readings, route};
use omniflow_policy::path::Target;
use omniflow_policy::policy::{Policy, PolicyDocument};
use serde_json::json;

/// Literals that are easily confused, and parameters. Some are listed in two encodings.
const SEGMENTS: [&str; 18] = [
    "a", "b", "admin", "{id}", "{id}", "{*rest}", "a:b", "a%3Ab", "%C3%A9", "%c3%a9", "e'", "x.y", "...",
    "~", "a%20b", "A", "a=b", "a@b",
];
/// Fragments from which requests are built, in addition to arbitrary bytes.
const PIECES: [&str; 32] = [
    "/",
    "a",
    "b",
    "admin",
    "%2f",
    "%2F",
    "..",
    ".",
    ";",
    "%3b",
    "\\",
    "%5c",
    "//",
    "%2e",
    "%25",
    "?",
    "#",
    "%00",
    "a:b",
    "a%3ab",
    "a%3Ab",
    "%C3%A9",
    "%c3%a9",
    "%C3",
    "e'",
    "e%27",
    "%EF%BC%8F",
    "a%20b",
    "%20",
    "x",
    "a%40b",
    "A",
];

#[derive(Debug)]
struct Case {
    templates: Vec<String>,
    target: Vec<u8>,
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut templates = Vec::new();
        for _ in 0..bytes.int_in_range(1..=6)? {
            let mut template = String::new();
            for _ in 0..bytes.int_in_range(1..=3)? {
                template.push('/');
                template.push_str(bytes.choose(&SEGMENTS)?);
            }
            templates.push(template);
        }
        let mut target = b"/".to_vec();
        while !bytes.is_empty() {
            if bytes.ratio(7, 8)? {
                target.extend_from_slice(bytes.choose(&PIECES)?.as_bytes());
            } else {
                target.push(bytes.arbitrary()?);
            }
        }
        Ok(Self { templates, target })
    }
}

fuzz_target!(|case: Case| {
    let Case { templates, target } = case;
    // Each template that is compatible with the previous ones.
    let mut routes = Vec::new();
    let mut compiled = None;
    for template in &templates {
        routes.push(json!({"path": template, "methods": ["any"], "scope": "a:b"}));
        match compile(&routes) {
            Some(policy) => compiled = Some(policy),
            None => drop(routes.pop()),
        }
    }
    let Some(policy) = compiled else { return };
    let known: Vec<&str> = policy.document().routes.iter().map(|route| route.path.as_str()).collect();

    let Ok(parsed) = Target::parse(&target) else { return };
    assert!(parsed.path.starts_with('/') && parsed.path.is_ascii());
    let Ok(Some(allowed)) = policy.route(b"GET", &parsed) else { return };
    for reading in readings(&target) {
        let read = route(&known, &reading);
        assert!(
            read.is_none_or(|template| template == allowed.template),
            "{:?} was let through as {}, and is {read:?} where it is read as {:?}",
            String::from_utf8_lossy(&target),
            allowed.template,
            String::from_utf8_lossy(&reading),
        );
    }
});

fn compile(routes: &[serde_json::Value]) -> Option<Policy> {
    let document = json!({"scopes": [{"name": "a:b"}], "routes": routes}).to_string();
    Policy::compile(PolicyDocument::from_json(document.as_bytes()).ok()?).ok()
}
