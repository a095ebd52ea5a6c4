//! AES-256-GCM; each message starts with a random nonce.
//!
//! A nonce must not repeat under one key. With 96 random bits, the probability is at most one in 2³² after 2³² messages
//! (NIST SP 800-38D, section 8.3); a data key is in use for a day and encrypts fewer.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use omniflow_domain::clock::{Entropy, EntropyUnavailable};

/// Bytes of a key.
pub(super) const KEY_LENGTH: usize = 32;

/// The bytes of a key. Wiped when dropped.
pub(super) type KeyBytes = Zeroizing<[u8; KEY_LENGTH]>;

/// A key that encrypts and decrypts.
pub(super) struct Cipher(LessSafeKey);

/// Not encrypted with this key, not for this purpose, or modified later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was not encrypted with this key, or it was modified later")]
pub(super) struct NotOpened;

/// Why a message was not encrypted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SealError {
    /// No random bytes.
    Entropy(EntropyUnavailable),
    /// A message of 64 GiB.
    TooLong,
}

/// A new key.
pub(super) fn random_key(entropy: &Entropy) -> Result<KeyBytes, EntropyUnavailable> {
    entropy.compose(|next| Zeroizing::new(std::array::from_fn(|_| next())))
}

// === impl Cipher ===

impl Cipher {
    pub(super) fn new(key: &KeyBytes) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key.as_slice()).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Encrypts a message. It can only be decrypted with the same `context`, which it does not contain.
    pub(super) fn seal(
        &self,
        entropy: &Entropy,
        context: &[u8],
        message: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LEN] =
            entropy.compose(|next| std::array::from_fn(|_| next())).map_err(SealError::Entropy)?;
        let mut sealed = message.to_vec();
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_| SealError::TooLong)?;
        Ok([&nonce[..], &sealed, tag.as_ref()].concat())
    }

    /// Decrypts a message that was encrypted with the same key and context.
    pub(super) fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened)?;
        let mut message = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length =
            self.0.open_in_place(nonce, Aad::from(context), &mut message).map_err(|_| NotOpened)?.len();
        message.truncate(length);
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher() -> Cipher {
        Cipher::new(&random_key(&Entropy::system()).unwrap()).unwrap()
    }

    #[test]
    fn a_message_comes_back_with_its_key_and_context_only() {
        let (cipher, entropy) = (cipher(), Entropy::system());
        let sealed = cipher.seal(&entropy, b"record 1", b"hunter2").unwrap();
        assert_eq!(cipher.open(b"record 1", &sealed).unwrap().as_slice(), b"hunter2");
        assert_eq!(cipher.open(b"record 2", &sealed), Err(NotOpened));
        assert_eq!(self::cipher().open(b"record 1", &sealed), Err(NotOpened));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(cipher.open(b"record 1", &changed), Err(NotOpened));
            assert_eq!(cipher.open(b"record 1", &sealed[..at]), Err(NotOpened));
        }
        assert_ne!(cipher.seal(&entropy, b"record 1", b"hunter2").unwrap(), sealed, "never the same nonce");
    }
}
