#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use proptest::prelude::*;

use super::*;

#[test]
fn longer_arguments_are_truncated() {
    let mut capture = PayloadCapture::new(b"a=1", b"text/plain", b"", 10);
    assert_eq!((capture.add(b"12345"), capture.add(b"678"), capture.add(b"9")), (5, 2, 0));
    let payload = capture.finish(true).unwrap();
    assert_eq!((payload.query.as_slice(), payload.body.as_slice()), (&b"a=1"[..], &b"1234567"[..]));
    assert_eq!((payload.state, payload.media_type.as_str()), (PayloadState::Cut, "text/plain"));

    let whole = PayloadCapture::new(b"0123456789", b"", b"", 10).finish(true).unwrap();
    assert_eq!(whole.state, PayloadState::Whole);
    assert_eq!(PayloadCapture::new(b"a=1", b"", b"", 10).finish(false).unwrap().state, PayloadState::Cut);
    assert_eq!(PayloadCapture::new(b"", b"text/plain", b"", 10).finish(true), None);
}

#[test]
fn headers_are_truncated_and_utf8() {
    let capture = PayloadCapture::new(b"a", &[0xff; 1_000], &[b'x'; 1_000], 10);
    assert!(capture.finish(true).unwrap().is_in_bounds());
}

proptest! {
    #[test]
    fn truncating_later_equals_capturing_less(query: Vec<u8>, body: Vec<u8>, max in 1usize..200) {
        let capture = |max| {
            let mut capture = PayloadCapture::new(&query, b"", b"", max);
            capture.add(&body);
            capture.finish(true)
        };
        let later = capture(usize::MAX).map(|payload| payload.truncate_to(max));
        prop_assert_eq!(later, capture(max));
    }

    #[test]
    fn the_beginning_of_the_arguments_is_captured(query: Vec<u8>, pieces: Vec<Vec<u8>>, max in 0usize..200) {
        let mut capture = PayloadCapture::new(&query, b"", b"", max);
        let kept: usize = pieces.iter().map(|piece| capture.add(piece)).sum();
        let all = [query.clone(), pieces.concat()].concat();
        prop_assert_eq!(capture.len(), all.len().min(max));
        prop_assert_eq!(kept, capture.len() - query.len().min(max));
        if let Some(payload) = capture.finish(true) {
            let joined = [payload.query.clone(), payload.body.clone()].concat();
            prop_assert!(all.starts_with(&joined));
            prop_assert_eq!(payload.state == PayloadState::Whole, joined.len() == all.len());
        }
    }
}
