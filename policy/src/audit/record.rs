//! The audit record of one call.

use alloc::string::String;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::interruption::Interruption;
use crate::denial::Outcome;
use crate::digest::Digest;
use crate::key::Environment;
use crate::redaction::redact;
use crate::time::UnixMillis;

/// Maximum length in bytes of a method in a record. Longer texts, here and below, are truncated and end in
/// [`TRUNCATED`].
pub const MAX_METHOD: usize = 32;
/// Maximum length in bytes of a path in a record.
pub const MAX_PATH: usize = 1_024;
/// Maximum length in bytes of a request ID in a record.
pub const MAX_REQUEST_ID: usize = 128;
/// Maximum length in bytes of texts that the control plane has defined: route templates and key names.
const MAX_OWN_TEXT: usize = 1_024;
/// The end of a text that was truncated.
pub const TRUNCATED: char = '…';

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
    /// The status of a gRPC response, from its trailers, or from the headers of one without a message.
    pub grpc_status: Option<u32>,
    /// Why the response was incomplete, if it was.
    pub interruption: Option<Interruption>,
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
        self.method.len() <= MAX_METHOD
            && self.path.len() <= MAX_PATH
            && self.request_id.len() <= MAX_REQUEST_ID
            && self.endpoint.as_ref().is_none_or(|endpoint| endpoint.len() <= MAX_OWN_TEXT)
            && self.key.as_ref().is_none_or(AuditKey::is_in_bounds)
    }
}

// === impl AuditKey ===

impl AuditKey {
    /// Whether the name is within the length that a filter sends.
    pub(super) fn is_in_bounds(&self) -> bool {
        self.name.len() <= MAX_OWN_TEXT
    }
}

/// Converts a text that the client sent to UTF-8 of at most `max` bytes. Bytes outside UTF-8 become U+FFFD. A
/// longer text is truncated and ends in [`TRUNCATED`].
///
/// Anything in the form of a key or token is redacted, whatever its prefix and position, percent-encoded or
/// not, because clients do put secrets into paths.
pub fn clip(bytes: &[u8], max: usize) -> String {
    let mut text = redact(String::from_utf8_lossy(bytes.get(..max).unwrap_or(bytes)).into_owned());
    // Each byte outside UTF-8 takes three.
    if bytes.len() <= max && text.len() <= max {
        return text;
    }
    let mut end = text.len().min(max.saturating_sub(TRUNCATED.len_utf8()));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push(TRUNCATED);
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
            let text = format!("/a/{marker}{secret}/b");
            assert_eq!(clip(text.as_bytes(), MAX_PATH), format!("/a/{marker}***/b"));
        }
    }

    #[test]
    fn clipped_text_is_short_and_utf8_and_marked() {
        assert_eq!(clip(b"/a\xff", 100), "/a\u{fffd}");
        assert_eq!(clip(b"0123456789", 10), "0123456789");
        assert_eq!(clip(b"0123456789a", 10), "0123456…");
        assert_eq!(clip("ééééé".as_bytes(), 9), "ééé…");
        for long in [vec![b'a'; 10_000], vec![0xff; 10_000], "é".repeat(5_000).into_bytes(), vec![0xff; 500]]
        {
            let clipped = clip(&long, MAX_PATH);
            assert!(clipped.len() <= MAX_PATH && clipped.ends_with(TRUNCATED), "{clipped}");
        }
    }

    #[test]
    fn a_secret_at_the_point_of_truncation_is_redacted() {
        let secret = format!("omf_live_{}", "a1B2".repeat(12));
        for start in 0..80 {
            let text = format!("{}/{secret}/b", "x".repeat(start));
            for max in 10..80 {
                let clipped = clip(text.as_bytes(), max);
                assert!(
                    clipped.len() <= max && !clipped.contains("a1B2a1B2a1B2a1B2a1B2"),
                    "{max}: {clipped}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, max in 0usize..40) {
            let _ = clip(&bytes, max);
        }
    }
}
