//! The arguments of a call: how much of them is recorded, and what is redacted.
//!
//! The filter captures them as they pass ([`PayloadCapture`]); the control plane redacts them before it
//! stores them.

mod field;

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use self::field::{ANY_NAME, FieldPointer, InvalidFieldPointer, MAX_FIELD_LENGTH};

/// Maximum value of [`PayloadPolicy::max_bytes`]. With its record, such a payload fits into one batch.
pub const MAX_PAYLOAD_BYTES: u32 = 256 * 1024;
/// Default value of [`PayloadPolicy::max_bytes`].
pub const DEFAULT_PAYLOAD_BYTES: u32 = 64 * 1024;
/// Maximum number of fields that a policy redacts.
pub const MAX_REDACTED_FIELDS: usize = 64;
/// Maximum length in bytes of a media type or content encoding. Longer ones are truncated.
const MAX_HEADER: usize = 256;

/// How the arguments of calls are recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadPolicy {
    /// Maximum number of bytes per call, query string and body together; 0 for none, at most
    /// [`MAX_PAYLOAD_BYTES`].
    #[serde(default = "default_bytes")]
    pub max_bytes: u32,
    /// Fields whose values are replaced before a payload is stored, at most [`MAX_REDACTED_FIELDS`].
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
    /// Whether the payload is complete.
    pub state: PayloadState,
    /// The request's `content-type`.
    pub media_type: String,
    /// The request's `content-encoding`.
    pub content_encoding: String,
}

/// Whether a payload is complete. The order is part of the format: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadState {
    /// The payload is everything that the client sent.
    Whole,
    /// The end is missing: the arguments exceed the limit, or the body did not pass in full.
    Cut,
    /// The content is missing: the gateway's buffer was full.
    NoRoom,
    /// The body is missing: the policy redacts fields, and the body is not in a format in which they can be
    /// found; or the search for secrets in it would exceed its limit.
    NotRedactable,
}

/// Captures the arguments of a call while they pass.
#[derive(Clone, Debug)]
pub struct PayloadCapture {
    payload: CallPayload,
    remaining: usize,
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
    /// Whether all settings have their default values.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl PayloadState ===

impl PayloadState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Whole, Self::Cut, Self::NoRoom, Self::NotRedactable];

    /// The state as in the API.
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
    /// Whether every part is within the length that a filter sends.
    pub(crate) fn is_in_bounds(&self) -> bool {
        self.query.len().saturating_add(self.body.len()) <= MAX_PAYLOAD_BYTES as usize
            && self.media_type.len() <= MAX_HEADER
            && self.content_encoding.len() <= MAX_HEADER
    }

    /// Truncates the payload to `max` bytes: the query string comes first, as in a capture.
    pub fn truncate_to(mut self, max: usize) -> Self {
        if self.query.len().saturating_add(self.body.len()) > max {
            self.query.truncate(max);
            self.body.truncate(max.saturating_sub(self.query.len()));
            if self.state == PayloadState::Whole {
                self.state = PayloadState::Cut;
            }
        }
        self
    }

    /// Removes the content, and keeps the rest, for a payload that does not fit into the gateway's buffer.
    pub fn without_content(self) -> Self {
        Self { query: Vec::new(), body: Vec::new(), state: PayloadState::NoRoom, ..self }
    }
}

// === impl PayloadCapture ===

impl PayloadCapture {
    /// Starts with the query string, and captures at most `max` bytes.
    pub fn new(query: &[u8], media_type: &[u8], content_encoding: &[u8], max: usize) -> Self {
        let payload = CallPayload {
            query: Vec::new(),
            body: Vec::new(),
            state: PayloadState::Whole,
            media_type: header(media_type),
            content_encoding: header(content_encoding),
        };
        let mut capture = Self { payload, remaining: max };
        capture.payload.query = capture.reserve(query).to_vec();
        capture
    }

    /// Adds a piece of the body. Returns the number of bytes that were captured.
    pub fn add(&mut self, body: &[u8]) -> usize {
        let kept = self.reserve(body);
        self.payload.body.extend_from_slice(kept);
        kept.len()
    }

    /// Number of bytes captured so far.
    pub fn len(&self) -> usize {
        self.payload.query.len() + self.payload.body.len()
    }

    /// Whether nothing was captured so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes the captured content.
    pub fn clear(&mut self) {
        self.payload.query = Vec::new();
        self.payload.body = Vec::new();
    }

    /// The payload without content, for arguments that do not fit into the gateway's buffer.
    pub fn without_content(self) -> CallPayload {
        self.payload.without_content()
    }

    /// Returns the payload; `None` for a call without arguments. `is_complete` is whether the whole body
    /// passed.
    pub fn finish(mut self, is_complete: bool) -> Option<CallPayload> {
        if self.payload.state == PayloadState::Whole && !is_complete {
            self.payload.state = PayloadState::Cut;
        }
        (!self.is_empty()).then_some(self.payload)
    }

    /// Reserves as many of these bytes as fit.
    fn reserve<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let kept = bytes.get(..self.remaining).unwrap_or(bytes);
        self.remaining -= kept.len();
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
mod tests;
