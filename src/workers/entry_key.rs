//! Authentication of entries in shared data.
//!
//! Under Istio, every plugin of the proxy shares its data and queues with this filter. A tag over each entry shows that this filter
//! has written it: SipHash-2-4, a function that was designed to authenticate short inputs, with a key that only VMs of this filter
//! have, because it is derived from the gateway token. It costs a tenth of what SHA-256 costs for each byte, and a tag of 64 bits
//! is enough, because a forger can check a guess only by writing it, and each wrong one is reported.

use std::hash::Hasher;

use omniflow_policy::digest::Digest;
use siphasher::sip::SipHasher24;

/// What is hashed before the token.
const LABEL: &[u8] = b"omniflow shared data 1\0";
/// The length of a tag in bytes.
const TAG_LENGTH: usize = 8;

/// The key of an installation. It does not implement `Debug`.
#[derive(Clone, Copy)]
pub(crate) struct EntryKey {
    keys: (u64, u64),
    id: u64,
}

// === impl EntryKey ===

impl EntryKey {
    /// Derives the key from a token, which has more than 128 random bits.
    pub(crate) fn new(token: &str) -> Self {
        let digest = Digest::of(&[LABEL, token.as_bytes()].concat());
        let part = |place: usize| {
            let bytes = digest.as_bytes().get(place..).and_then(<[u8]>::first_chunk::<8>);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        Self { keys: (part(0), part(8)), id: part(16) }
    }

    /// A name of the key, from which the key cannot be derived.
    pub(crate) fn id(self) -> u64 {
        self.id
    }

    /// Appends a tag to a value. `context` is where the value belongs.
    pub(crate) fn seal(self, context: &str, mut value: Vec<u8>) -> Vec<u8> {
        value.extend_from_slice(&self.tag(context, &value));
        value
    }

    /// Removes and checks the tag. `None` if it is wrong.
    pub(crate) fn open(self, context: &str, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let (value, tag) = sealed.split_last_chunk::<TAG_LENGTH>()?;
        let (length, is_valid) = (value.len(), self.tag(context, value) == *tag);
        sealed.truncate(length);
        is_valid.then_some(sealed)
    }

    fn tag(self, context: &str, value: &[u8]) -> [u8; TAG_LENGTH] {
        let mut hasher = SipHasher24::new_with_keys(self.keys.0, self.keys.1);
        // No context contains a zero byte.
        hasher.write(context.as_bytes());
        hasher.write(&[0]);
        hasher.write(value);
        hasher.finish().to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_with_the_key_for_the_entry_is_opened() {
        let key = EntryKey::new("omf_token_a");
        let sealed = key.seal("head", b"value".to_vec());
        assert_eq!(key.open("head", sealed.clone()).as_deref(), Some(&b"value"[..]));
        assert_eq!(key.open("other", sealed.clone()), None);
        assert_eq!(EntryKey::new("omf_token_b").open("head", sealed.clone()), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open("head", changed), None, "{at}");
        }
        for short in [&b""[..], b"value"] {
            assert_eq!(key.open("head", short.to_vec()), None);
        }
        assert_eq!(key.open("head", key.seal("head", Vec::new())).as_deref(), Some(&b""[..]));
    }
}
