//! The arguments of calls as they are stored: sealed, with keys that are sealed themselves.

/// A payload that only its data key opens.
#[derive(Clone, Debug)]
pub(crate) struct SealedPayload {
    /// The number of the data key.
    pub(crate) data_key: i64,
    /// What is stored.
    pub(crate) sealed: Vec<u8>,
}

/// A data key that only its wrapping key opens.
#[derive(Clone, Debug)]
pub(crate) struct SealedDataKey {
    /// Its number.
    pub(crate) id: i64,
    /// The name of the wrapping key.
    pub(crate) wrapping_key: Vec<u8>,
    /// The key, sealed.
    pub(crate) sealed: Vec<u8>,
}
