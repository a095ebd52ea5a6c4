//! The hash of a call's arguments.

use crate::digest::{Digest, DigestStream};

/// Computes the hash of a call's arguments: SHA-256 over the query string (without its question mark), one
/// line feed, and the body. A query string contains no line feed, so the two cannot be confused.
///
/// With OpenSSL: `{ printf '%s\n' "$QUERY"; cat body; } | openssl dgst -sha256`.
#[derive(Clone)]
pub struct ArgumentHash(Option<DigestStream>);

/// The hash of a call without arguments, which is the SHA-256 of a line feed. A GET without a query string
/// does not have to compute it.
const NO_ARGUMENTS: Digest = Digest::from_bytes([
    0x01, 0xba, 0x47, 0x19, 0xc8, 0x0b, 0x6f, 0xe9, 0x11, 0xb0, 0x91, 0xa7, 0xc0, 0x51, 0x24, 0xb6, 0x4e,
    0xee, 0xce, 0x96, 0x4e, 0x09, 0xc0, 0x58, 0xef, 0x8f, 0x98, 0x05, 0xda, 0xca, 0x54, 0x6b,
]);

// === impl ArgumentHash ===

impl ArgumentHash {
    /// Starts with the query string.
    pub fn new(query: &[u8]) -> Self {
        Self((!query.is_empty()).then(|| begin(query)))
    }

    /// Adds a piece of the body.
    pub fn update(&mut self, body: &[u8]) {
        if !body.is_empty() {
            self.0.get_or_insert_with(|| begin(b"")).update(body);
        }
    }

    /// Returns the hash.
    pub fn finish(self) -> Digest {
        self.0.map_or(NO_ARGUMENTS, DigestStream::finish)
    }
}

fn begin(query: &[u8]) -> DigestStream {
    let mut digest = DigestStream::default();
    digest.update(query);
    digest.update(b"\n");
    digest
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn arguments_hash_as_documented() {
        let mut hash = ArgumentHash::new(b"q=1&r=2");
        hash.update(b"{\"a\":");
        hash.update(b"1}");
        assert_eq!(hash.finish(), Digest::of(b"q=1&r=2\n{\"a\":1}"));
        let mut body_alone = ArgumentHash::new(b"");
        assert_eq!(body_alone.clone().finish(), Digest::of(b"\n"));
        body_alone.update(b"");
        assert_eq!(body_alone.clone().finish(), Digest::of(b"\n"));
        body_alone.update(b"{}");
        assert_eq!(body_alone.finish(), Digest::of(b"\n{}"));
    }
}
