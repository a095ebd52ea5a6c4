//! The arguments of calls, as stored: redacted, and encrypted with data keys, which are themselves encrypted.

mod field_name;
mod redact;
mod secrets;

pub use self::redact::redact;
pub use self::secrets::{redact_secrets, redact_text};

/// A payload that only its data key can decrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedPayload {
    /// The number of the data key.
    pub data_key: i64,
    /// The stored bytes.
    pub sealed: Vec<u8>,
}

/// A data key that only its wrapping key can decrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedDataKey {
    /// Its number.
    pub id: i64,
    /// The name of the wrapping key.
    pub wrapping_key: Vec<u8>,
    /// The encrypted key.
    pub sealed: Vec<u8>,
}
