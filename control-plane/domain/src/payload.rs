//! The arguments of calls as they are stored: sealed, with keys that are sealed themselves.

/// A payload that only its data key opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedPayload {
    /// The number of the data key.
    pub data_key: i64,
    /// What is stored.
    pub sealed: Vec<u8>,
}

/// A data key that only its wrapping key opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedDataKey {
    /// Its number.
    pub id: i64,
    /// The name of the wrapping key.
    pub wrapping_key: Vec<u8>,
    /// The key, sealed.
    pub sealed: Vec<u8>,
}
