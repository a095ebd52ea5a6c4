#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use proptest::prelude::*;

use super::*;

#[test]
fn unambiguous_paths_are_accepted() {
    for path in [
        "/",
        "/api/v1/contacts",
        "/api/v1/contacts/",
        "/api/v1/contacts/a-b_c.d~e",
        "/a/...",
        "/a/.hidden",
        "/a/b..c",
        "/a/hello%20world",
        "/a/%C3%A9t%C3%A9",
        "/a/user@example.com",
        "/a/x:cancel",
    ] {
        assert_eq!(Target::parse(path.as_bytes()).map(|t| t.path), Ok(path), "{path}");
    }
    let target = Target::parse(b"/a?b=%2F../;x?y").unwrap();
    assert_eq!((target.path, target.query), ("/a", &b"b=%2F../;x?y"[..]));
}

#[test]
fn ambiguous_paths_are_refused() {
    for path in [
        "",
        "*",
        "a",
        "http://x/a",
        "//",
        "//a",
        "/a//b",
        "/.",
        "/..",
        "/a/.",
        "/a/..",
        "/a/./b",
        "/a/../b",
        "/..;/a",
        "/a;x",
        "/a/b;x=1/c",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/%2e/a",
        "/%2e%2e/a",
        "/.%2e/a",
        "/a%252fb",
        "/a%25",
        "/a%",
        "/a%4",
        "/a%zz",
        "/%61pi",
        "/a%00",
        "/a%0d%0a",
        "/a%7f",
        "/a\0",
        "/a b",
        "/a#b",
        "/a%23b",
        "/a%3fb",
        "/a%3bb",
        "/a?b#c",
        "/a\tb",
        "/é",
        "/a%c0%af",
        "/a%c3",
        "/a%c3x",
        "/a|b",
        "/a%ed%a0%80",
        "/..%20",
        "/%20..%c2%a0/a",
        "/.%20",
        "/%20",
        "/a/..%EF%BC%8Fb",
        "/a%e2%88%95b",
        "/%e2%80%a5/a",
        "/a/%EF%B8%B0/b",
        "/..%EF%BB%BF/a",
        "/a%EF%BC%9Bb",
        "/a%CD%BEb",
        "/a[b]",
        "/a\"b",
    ] {
        assert_eq!(Target::parse(path.as_bytes()), Err(AmbiguousPath), "{path:?}");
    }
    assert_eq!(Target::parse(b"/a\xff"), Err(AmbiguousPath));
    assert_eq!(Target::parse(b"/a?\xff"), Err(AmbiguousPath));
}

/// How a lenient upstream interprets a path: it decodes twice, merges separators, drops parameters, and
/// resolves dots.
fn lenient_interpretation(path: &str) -> Vec<u8> {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..2 {
        bytes = decode(&bytes);
    }
    let mut segments: Vec<Vec<u8>> = Vec::new();
    for segment in bytes.split(|b| matches!(b, b'/' | b'\\')) {
        match segment.split(|b| matches!(b, b';' | 0 | b'#' | b'?')).next().unwrap_or_default() {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            other => segments.push(other.to_vec()),
        }
    }
    segments.join(&b'/')
}

fn strict_interpretation(path: &str) -> Vec<u8> {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.map(|segment| decode(segment.as_bytes())).collect::<Vec<_>>().join(&b'/')
}

proptest! {
    #[test]
    fn accepted_paths_are_the_same_to_a_lenient_server(
        path in "/([a-c./\\\\;%?#]|%2[efEF5]|%5[cC]|%3[bB]|%6[1-3]|%00|%c3%a9|%20){0,24}"
    ) {
        if let Ok(target) = Target::parse(path.as_bytes()) {
            prop_assert_eq!(lenient_interpretation(target.path), strict_interpretation(target.path));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Target::parse(&bytes);
    }
}
