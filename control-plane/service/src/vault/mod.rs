//! The arguments of calls at rest: redacted, compressed and encrypted.
//!
//! A data key is generated each day and at each start, and is stored in the audit database, encrypted with the
//! installation's wrapping key ([`keyring`]). A rotation re-encrypts the few data keys, not the payloads. A data key is
//! deleted with its last payload. After a later rotation, the remains of such payloads on disk, or in an older copy of
//! the database file, cannot be decrypted with the current wrapping key.

mod cipher;
mod keyring;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use omniflow_policy::digest::Digest;
use omniflow_policy::payload::{CallPayload, FieldPointer, MAX_PAYLOAD_BYTES};
use omniflow_policy::time::UnixMillis;
use tokio::sync::Mutex;
use tokio::task::{JoinError, spawn_blocking};
use zeroize::Zeroizing;

use self::cipher::{Cipher, KEY_LENGTH, SealError, random_key};
pub(crate) use self::keyring::KeyName;
use self::keyring::Keyring;
pub use self::keyring::KeyringError;
use omniflow_domain::clock::{Entropy, EntropyUnavailable};
use omniflow_domain::payload::{SealedDataKey, SealedPayload, redact as redact_payload};
use omniflow_domain::time::DAY_MS;
use omniflow_store::{Store, StoreError};

/// How long a data key is used for encryption, in milliseconds.
pub(crate) const DATA_KEY_TIME: u64 = DAY_MS;
/// More than the size of any decompressed payload. Redaction makes it at most three times as long (`1,` in a list
/// becomes `"***",`), and its texts and lengths are added to its bytes.
const MAX_UNPACKED: u64 = 4 * MAX_PAYLOAD_BYTES as u64;
/// The context with which a data key is encrypted.
const DATA_KEY_CONTEXT: &[u8] = b"omniflow audit data key 1";
/// The prefix of the context of a payload, before the values of its record.
const PAYLOAD_CONTEXT: &[u8] = b"omniflow audit payload 1";

/// Encrypts and decrypts payloads.
pub struct Vault {
    state: Mutex<State>,
    entropy: Entropy,
}

struct State {
    keyring: Keyring,
    current: Option<Arc<DataKey>>,
}

/// A key that encrypts payloads.
struct DataKey {
    id: i64,
    created_at: UnixMillis,
    cipher: Cipher,
}

/// Values of the record that a payload belongs to. The payload can be decrypted only for this record.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    /// The hash of the arguments, as computed by the gateway.
    pub argument_hash: Digest,
    /// The gateway's request ID.
    pub request_id: String,
}

/// Why a payload cannot be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The wrapping keys cannot be read or written.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
    /// The wrapping key is not in the file.
    #[error(
        "its wrapping key {} is not in payload_key_file. Add that key on its own line, then restart omf serve",
        hex_name(.0)
    )]
    KeyMissing(Vec<u8>),
    /// The stored bytes cannot be decrypted.
    #[error("the stored data is corrupted")]
    Damaged,
    /// A message of 64 GiB.
    #[error("it is too long to be encrypted")]
    TooLong,
    /// The process is ending.
    #[error("it was not encrypted: {0}")]
    Ended(#[from] JoinError),
}

impl From<SealError> for VaultError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Entropy(error) => Self::Entropy(error),
            SealError::TooLong => Self::TooLong,
        }
    }
}

/// The outcome of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// The name of the wrapping key from now on.
    pub wrapping_key: KeyName,
    /// Number of data keys that were re-encrypted.
    pub data_keys: usize,
    /// Number of data keys that cannot be decrypted: their wrapping key is not in the file, or they are corrupted.
    pub unreadable: usize,
}

// === impl Vault ===

impl Vault {
    /// Reads the wrapping keys, or generates the first one, and re-encrypts with the newest one the data keys of older
    /// ones.
    pub async fn open(path: &Path, store: &dyn Store, entropy: Entropy) -> Result<Self, VaultError> {
        let keyring = Keyring::open(path, &entropy)?;
        let vault = Self { state: Mutex::new(State { keyring, current: None }), entropy };
        vault.reseal(&vault.state.lock().await.keyring, store).await?;
        Ok(vault)
    }

    /// Redacts, compresses and encrypts payloads, by the sequence numbers of their calls.
    pub(crate) async fn seal(
        &self,
        store: &dyn Store,
        now: UnixMillis,
        payloads: Vec<(u64, Binding, CallPayload)>,
        redact: Vec<FieldPointer>,
    ) -> Result<HashMap<u64, SealedPayload>, VaultError> {
        if payloads.is_empty() {
            return Ok(HashMap::new());
        }
        let key = self.data_key(store, now).await?;
        let entropy = self.entropy.clone();
        let sealed = spawn_blocking(move || {
            let seal = |(sequence, binding, payload): (u64, Binding, CallPayload)| {
                let packed = pack(&redact_payload(payload, &redact));
                let sealed = key.cipher.seal(&entropy, &binding.context(), &packed)?;
                Ok((sequence, SealedPayload { data_key: key.id, sealed }))
            };
            payloads.into_iter().map(seal).collect::<Result<_, VaultError>>()
        });
        sealed.await?
    }

    /// Decrypts a payload.
    pub(crate) async fn unseal(
        &self,
        store: &dyn Store,
        binding: &Binding,
        payload: &SealedPayload,
    ) -> Result<CallPayload, VaultError> {
        let cipher = {
            // Read under the lock: a rotation re-encrypts the data key and removes the key that had encrypted it.
            let state = self.state.lock().await;
            let wrapped = store.data_key(payload.data_key).await?.ok_or(VaultError::Damaged)?;
            open_data_key(&state.keyring, &wrapped)?
        };
        let packed = cipher.open(&binding.context(), &payload.sealed).map_err(|_| VaultError::Damaged)?;
        unpack(&packed).ok_or(VaultError::Damaged)
    }

    /// Generates a new wrapping key, encrypts all data keys with it, and removes the previous ones. If this is
    /// interrupted, the next start continues the rotation: no data key is ever encrypted with a key that is not in the
    /// file.
    pub(crate) async fn rotate(&self, store: &dyn Store) -> Result<Rotation, VaultError> {
        let mut state = self.state.lock().await;
        // The next payload gets a new data key.
        state.current = None;
        state.keyring.add(&self.entropy)?;
        let (data_keys, unreadable) = self.reseal(&state.keyring, store).await?;
        state.keyring.forget_older()?;
        Ok(Rotation { wrapping_key: state.keyring.newest().name(), data_keys, unreadable })
    }

    /// Encrypts with the newest wrapping key the data keys that an older one has encrypted. Returns the number of these
    /// data keys, and the number of those that cannot be decrypted.
    async fn reseal(&self, keyring: &Keyring, store: &dyn Store) -> Result<(usize, usize), VaultError> {
        let newest = keyring.newest();
        let (mut done, mut damaged) = (Vec::new(), 0);
        let mut missing: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for wrapped in store.data_keys().await? {
            if wrapped.wrapping_key == newest.name() {
                continue;
            }
            let Some(older) = keyring.find(&wrapped.wrapping_key) else {
                *missing.entry(wrapped.wrapping_key).or_default() += 1;
                continue;
            };
            let Ok(bytes) = older.cipher().open(DATA_KEY_CONTEXT, &wrapped.sealed) else {
                tracing::error!(data_key = wrapped.id, "data key damaged, its payloads are unreadable");
                damaged += 1;
                continue;
            };
            let sealed = newest.cipher().seal(&self.entropy, DATA_KEY_CONTEXT, &bytes)?;
            done.push(SealedDataKey { wrapping_key: newest.name().to_vec(), sealed, ..wrapped });
        }
        store.reseal_data_keys(&done).await?;
        for (wrapping_key, data_keys) in &missing {
            tracing::warn!(
                wrapping_key = hex_name(wrapping_key),
                data_keys,
                "wrapping key missing, payloads are unreadable; add the key on its own line to the payload key file, then restart"
            );
        }
        Ok((done.len(), missing.values().sum::<usize>() + damaged))
    }

    /// The data key of the day, generated if there is none.
    async fn data_key(&self, store: &dyn Store, now: UnixMillis) -> Result<Arc<DataKey>, VaultError> {
        let mut state = self.state.lock().await;
        if let Some(key) = &state.current
            && now.0.abs_diff(key.created_at.0) < DATA_KEY_TIME
        {
            return Ok(Arc::clone(key));
        }
        let bytes = random_key(&self.entropy)?;
        let cipher = Cipher::new(&bytes).ok_or(VaultError::Damaged)?;
        let newest = state.keyring.newest();
        let sealed = newest.cipher().seal(&self.entropy, DATA_KEY_CONTEXT, bytes.as_slice())?;
        let id = store.insert_data_key(now, &newest.name(), &sealed).await?;
        let key = Arc::new(DataKey { id, created_at: now, cipher });
        state.current = Some(Arc::clone(&key));
        Ok(key)
    }
}

fn open_data_key(keyring: &Keyring, wrapped: &SealedDataKey) -> Result<Cipher, VaultError> {
    let wrapping_key = keyring
        .find(&wrapped.wrapping_key)
        .ok_or_else(|| VaultError::KeyMissing(wrapped.wrapping_key.clone()))?;
    let opened = wrapping_key.cipher().open(DATA_KEY_CONTEXT, &wrapped.sealed);
    let bytes: [u8; KEY_LENGTH] =
        opened.ok().and_then(|bytes| bytes.as_slice().try_into().ok()).ok_or(VaultError::Damaged)?;
    Cipher::new(&Zeroizing::new(bytes)).ok_or(VaultError::Damaged)
}

/// Checks whether a file of wrapping keys can be used or created, without creating it.
pub fn check_key_file(path: &Path) -> Result<(), KeyringError> {
    Keyring::check(path)
}

/// A key's name in hexadecimal digits.
pub(crate) fn hex_name(name: &[u8]) -> String {
    hex::encode(name)
}

fn pack(payload: &CallPayload) -> Vec<u8> {
    let plain = Zeroizing::new(postcard::to_allocvec(payload).unwrap_or_default());
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    // Writing into memory cannot fail.
    let _ = encoder.write_all(&plain);
    encoder.finish().unwrap_or_default()
}

fn unpack(packed: &[u8]) -> Option<CallPayload> {
    let mut plain = Zeroizing::new(Vec::new());
    let unpacked: io::Result<usize> = DeflateDecoder::new(packed).take(MAX_UNPACKED).read_to_end(&mut plain);
    unpacked.ok()?;
    postcard::from_bytes(&plain).ok()
}

// === impl Binding ===

impl Binding {
    fn context(&self) -> Vec<u8> {
        [PAYLOAD_CONTEXT, self.argument_hash.as_bytes().as_slice(), self.request_id.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests;
