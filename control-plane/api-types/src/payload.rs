//! The arguments of a call in JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use omniflow_policy::payload::{CallPayload, PayloadState};
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use super::time::Time;

/// The arguments of a call.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = AuditPayload)]
pub struct PayloadJson {
    /// ID of the call's record.
    #[schema(value_type = schema::Number)]
    pub record_id: String,
    /// Query string, without the question mark.
    pub query: String,
    /// Request body, as text or in Base64.
    pub body: String,
    /// Encoding of `body`.
    #[schema(value_type = schema::BodyEncoding)]
    pub body_encoding: Cow<'static, str>,
    /// `content-type` of the request.
    pub media_type: String,
    /// `content-encoding` of the request.
    pub content_encoding: String,
    /// State of the stored arguments.
    #[schema(value_type = schema::PayloadState)]
    pub state: Cow<'static, str>,
    /// When the arguments are purged.
    #[schema(value_type = schema::Instant)]
    pub kept_until: Time,
}

/// A rotation of the key that encrypts payloads.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct RotatedPayloadKey {
    /// Name of the new key: the first 16 hexadecimal digits of its SHA-256.
    pub wrapping_key: String,
    /// Number of data keys that were re-encrypted with the new key.
    pub data_keys: usize,
    /// Number of data keys that cannot be decrypted because their wrapping key is not in the file. Their payloads are
    /// unreadable.
    pub unreadable: usize,
}

// === impl PayloadJson ===

impl PayloadJson {
    /// The arguments of the call with this record ID.
    pub fn new(record: i64, payload: CallPayload, kept_until: UnixMillis) -> Self {
        // JSON text must be UTF-8. A query string that was accepted has only bytes that are valid in a URL.
        let query = String::from_utf8_lossy(&payload.query).into_owned();
        let mut body = payload.body;
        if payload.state == PayloadState::Cut {
            drop_broken_end(&mut body);
        }
        let (body, body_encoding) = match String::from_utf8(body) {
            Ok(text) => (text, "text"),
            Err(bytes) => (BASE64_STANDARD.encode(bytes.as_bytes()), "base64"),
        };
        Self {
            record_id: record.to_string(),
            query,
            body,
            body_encoding: body_encoding.into(),
            media_type: payload.media_type,
            content_encoding: payload.content_encoding,
            state: payload.state.as_str().into(),
            kept_until: Time(kept_until),
        }
    }
}

/// Removes an incomplete character from the end, so that truncated text remains valid UTF-8.
fn drop_broken_end(body: &mut Vec<u8>) {
    if let Err(error) = std::str::from_utf8(body)
        && error.error_len().is_none()
    {
        body.truncate(error.valid_up_to());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_was_cut_is_a_text() {
        let shown = |body: &[u8], state| {
            let payload = CallPayload {
                query: Vec::new(),
                body: body.to_vec(),
                state,
                media_type: String::new(),
                content_encoding: String::new(),
            };
            let json = PayloadJson::new(1, payload, UnixMillis(0));
            (json.body, json.body_encoding.into_owned())
        };
        let euro = "a\u{20ac}".as_bytes();
        assert_eq!(shown(&euro[..3], PayloadState::Cut), ("a".to_owned(), "text".to_owned()));
        assert_eq!(shown(&euro[..3], PayloadState::Whole).1, "base64");
        assert_eq!(shown(b"\xffab", PayloadState::Cut).1, "base64");
    }
}
