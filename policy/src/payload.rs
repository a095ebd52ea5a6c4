//! The arguments of a call themselves: how much of them is kept, and what of them is not.
//!
//! The filter takes them down as they pass ([`PayloadCapture`]); the control plane redacts them before they are stored
//! ([`CallPayload::redacted`]).

mod field;
mod redact;

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use self::field::{FieldPointer, InvalidFieldPointer, MAX_FIELD_LENGTH};

/// The most bytes of one call's arguments that a policy may have kept. With its record it fits into one batch.
pub const MAX_PAYLOAD_BYTES: u32 = 256 * 1024;
/// The bytes of one call's arguments that are kept where the policy says nothing.
pub const DEFAULT_PAYLOAD_BYTES: u32 = 64 * 1024;
/// The most fields that a policy may redact.
pub const MAX_REDACTED_FIELDS: usize = 64;
/// The most bytes of a media type or content encoding. What is longer is cut.
const MAX_HEADER: usize = 256;

/// What is kept of the arguments of calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadPolicy {
    /// How many bytes of one call, query string and body together; 0 for none at all, at most [`MAX_PAYLOAD_BYTES`].
    #[serde(default = "default_bytes")]
    pub max_bytes: u32,
    /// Fields whose values are replaced before anything is stored, at most [`MAX_REDACTED_FIELDS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<FieldPointer>,
}

/// The arguments of one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallPayload {
    /// The query string, without its question mark.
    #[serde(with = "serde_bytes")]
    pub query: Vec<u8>,
    /// The body.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
    /// Whether that is all.
    pub state: PayloadState,
    /// The request's `content-type`.
    pub media_type: String,
    /// The request's `content-encoding`.
    pub content_encoding: String,
}

/// Whether a payload is all that the caller sent. The order is part of the format: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadState {
    /// It is.
    Whole,
    /// The end is missing: there was more than is kept, or the body did not pass in full.
    Cut,
    /// The gateway had no room for it.
    NoRoom,
    /// The body is missing: fields of it are to be redacted, and it is not of a form in which they can be found.
    NotRedactable,
}

/// Takes down the arguments of a call while they pass.
#[derive(Clone, Debug)]
pub struct PayloadCapture {
    payload: CallPayload,
    room: usize,
}

// === impl PayloadPolicy ===

fn default_bytes() -> u32 {
    DEFAULT_PAYLOAD_BYTES
}

impl Default for PayloadPolicy {
    fn default() -> Self {
        Self { max_bytes: DEFAULT_PAYLOAD_BYTES, redact: Vec::new() }
    }
}

impl PayloadPolicy {
    /// Whether it says nothing that is not so by itself.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl PayloadState ===

impl PayloadState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Whole, Self::Cut, Self::NoRoom, Self::NotRedactable];

    /// The state as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Cut => "cut",
            Self::NoRoom => "no_room",
            Self::NotRedactable => "not_redactable",
        }
    }
}

// === impl CallPayload ===

impl CallPayload {
    /// Whether no part is longer than a filter makes it.
    pub(crate) fn is_in_bounds(&self) -> bool {
        self.query.len().saturating_add(self.body.len()) <= MAX_PAYLOAD_BYTES as usize
            && self.media_type.len() <= MAX_HEADER
            && self.content_encoding.len() <= MAX_HEADER
    }

    /// At most `most` bytes of it: the query string first, as where a call is taken down.
    pub fn cut_to(mut self, most: usize) -> Self {
        if self.query.len().saturating_add(self.body.len()) > most {
            self.query.truncate(most);
            self.body.truncate(most.saturating_sub(self.query.len()));
            if self.state == PayloadState::Whole {
                self.state = PayloadState::Cut;
            }
        }
        self
    }

    /// What is told of it where there is no room for the rest.
    pub fn without_room(self) -> Self {
        Self { query: Vec::new(), body: Vec::new(), state: PayloadState::NoRoom, ..self }
    }
}

// === impl PayloadCapture ===

impl PayloadCapture {
    /// Begins with the query string and keeps at most `most` bytes.
    pub fn new(query: &[u8], media_type: &[u8], content_encoding: &[u8], most: usize) -> Self {
        let payload = CallPayload {
            query: Vec::new(),
            body: Vec::new(),
            state: PayloadState::Whole,
            media_type: header(media_type),
            content_encoding: header(content_encoding),
        };
        let mut capture = Self { payload, room: most };
        capture.payload.query = capture.take(query).to_vec();
        capture
    }

    /// Adds a piece of the body. Gives how many bytes of it were kept.
    pub fn add(&mut self, body: &[u8]) -> usize {
        let kept = self.take(body);
        self.payload.body.extend_from_slice(kept);
        kept.len()
    }

    /// Bytes that are kept so far.
    pub fn len(&self) -> usize {
        self.payload.query.len() + self.payload.body.len()
    }

    /// Whether nothing is kept so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what was kept.
    pub fn clear(&mut self) {
        self.payload.query = Vec::new();
        self.payload.body = Vec::new();
    }

    /// What is told of arguments for which there was no room.
    pub fn without_room(self) -> CallPayload {
        self.payload.without_room()
    }

    /// The payload; `None` for a call without arguments. `is_complete` tells whether the whole body has passed.
    pub fn finish(mut self, is_complete: bool) -> Option<CallPayload> {
        if self.payload.state == PayloadState::Whole && !is_complete {
            self.payload.state = PayloadState::Cut;
        }
        (!self.is_empty()).then_some(self.payload)
    }

    /// As much of it as there is room for.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let kept = bytes.get(..self.room).unwrap_or(bytes);
        self.room -= kept.len();
        if kept.len() < bytes.len() {
            self.payload.state = PayloadState::Cut;
        }
        kept
    }
}

fn header(value: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(value.get(..MAX_HEADER).unwrap_or(value)).into_owned();
    while text.len() > MAX_HEADER {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_longer_is_cut() {
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
    fn headers_are_short_and_utf8() {
        let capture = PayloadCapture::new(b"a", &[0xff; 1_000], &[b'x'; 1_000], 10);
        assert!(capture.finish(true).unwrap().is_in_bounds());
    }

    proptest! {
        #[test]
        fn what_is_cut_later_is_what_would_have_been_kept(query: Vec<u8>, body: Vec<u8>, most in 1usize..200) {
            let capture = |most| {
                let mut capture = PayloadCapture::new(&query, b"", b"", most);
                capture.add(&body);
                capture.finish(true)
            };
            let later = capture(usize::MAX).map(|payload| payload.cut_to(most));
            prop_assert_eq!(later, capture(most));
        }

        #[test]
        fn what_is_kept_is_the_beginning(query: Vec<u8>, pieces: Vec<Vec<u8>>, most in 0usize..200) {
            let mut capture = PayloadCapture::new(&query, b"", b"", most);
            let kept: usize = pieces.iter().map(|piece| capture.add(piece)).sum();
            let all = [query.clone(), pieces.concat()].concat();
            prop_assert_eq!(capture.len(), all.len().min(most));
            prop_assert_eq!(kept, capture.len() - query.len().min(most));
            if let Some(payload) = capture.finish(true) {
                let joined = [payload.query.clone(), payload.body.clone()].concat();
                prop_assert!(all.starts_with(&joined));
                prop_assert_eq!(payload.state == PayloadState::Whole, joined.len() == all.len());
            }
        }
    }
}
