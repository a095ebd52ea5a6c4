//! The audit record of one call.

use alloc::string::String;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::denial::Outcome;
use crate::digest::Digest;
use crate::key::Environment;
use crate::redaction::redact;
use crate::time::UnixMillis;

/// Maximum length in bytes of a text that the client sent (method, path, request ID). Longer texts are
/// truncated.
pub const MAX_TEXT: usize = 2_048;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Position in the VM's sequence of calls, from 0. A number that never arrives is a missing record.
    pub sequence: u64,
    /// Start of the call.
    pub time: UnixMillis,
    /// The key, if the client used one that exists.
    pub key: Option<AuditKey>,
    /// The method.
    pub method: String,
    /// The template of the route.
    pub endpoint: Option<String>,
    /// The path, without the query string.
    pub path: String,
    /// The status that the client received; 0 if it received none.
    pub status: u16,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// Time from the request headers to the end of the stream, in microseconds.
    pub latency_us: u64,
    /// The client's address, as seen by Envoy.
    pub source_ip: Option<IpAddr>,
    /// Envoy's request ID.
    pub request_id: String,
    /// Number of bytes of the request body that passed through the filter.
    pub request_bytes: u64,
    /// Number of bytes of the response body.
    pub response_bytes: u64,
    /// See [`super::ArgumentHash`].
    pub argument_hash: Digest,
    /// Whether the body did not pass in full, so that the hash covers only its beginning.
    pub argument_hash_partial: bool,
}

/// The key of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditKey {
    /// The key's ID.
    pub id: Uuid,
    /// The key's name at the time of the call.
    pub name: String,
    /// The version that was used.
    pub version: u16,
    /// The key's environment.
    pub environment: Environment,
}

// === impl AuditRecord ===

impl AuditRecord {
    /// Whether every text is within the length that a filter sends.
    pub(super) fn is_in_bounds(&self) -> bool {
        let endpoint = self.endpoint.as_deref().unwrap_or_default();
        let name = self.key.as_ref().map_or("", |key| key.name.as_str());
        [&self.method, &self.path, &self.request_id, endpoint, name].iter().all(|text| text.len() <= MAX_TEXT)
    }
}

/// Converts a text that the client sent to UTF-8 of at most [`MAX_TEXT`] bytes. Bytes outside UTF-8 become
/// U+FFFD.
///
/// Anything in the form of a key or token is redacted, whatever its prefix and position, percent-encoded or
/// not, because clients do put secrets into paths.
pub fn clip(bytes: &[u8]) -> String {
    redact(truncate(bytes))
}

fn truncate(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes.get(..MAX_TEXT).unwrap_or(bytes)).into_owned();
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_in_text_are_redacted() {
        let secret = "a1B2".repeat(12);
        for marker in ["omf_live_", "omf%5Flive%5F", "omf_live_test_"] {
            assert_eq!(clip(format!("/a/{marker}{secret}/b").as_bytes()), format!("/a/{marker}***/b"));
        }
    }

    #[test]
    fn clipped_text_is_short_and_utf8() {
        assert_eq!(clip(b"/a\xff"), "/a\u{fffd}");
        assert!(clip(&[0xff; 10_000]).len() <= MAX_TEXT);
        assert!(clip("é".repeat(5_000).as_bytes()).len() <= MAX_TEXT);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = clip(&bytes);
        }
    }
}
