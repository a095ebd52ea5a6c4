//! Encrypted arguments of calls, and the data keys that encrypt them, which are themselves encrypted.

use async_trait::async_trait;
use omniflow_domain::payload::{SealedDataKey, SealedPayload};
use omniflow_policy::time::UnixMillis;

use crate::error::Result;

/// Reads payloads, and reads and writes data keys. Payloads are written with their calls.
#[async_trait]
pub trait PayloadStore {
    /// The encrypted arguments of a call, if they are stored.
    async fn payload(&self, record: i64) -> Result<Option<SealedPayload>>;

    /// One data key.
    async fn data_key(&self, id: i64) -> Result<Option<SealedDataKey>>;

    /// All data keys, oldest first.
    async fn data_keys(&self) -> Result<Vec<SealedDataKey>>;

    /// Inserts a data key and returns its number.
    async fn insert_data_key(
        &self,
        created_at: UnixMillis,
        wrapping_key: &[u8],
        sealed: &[u8],
    ) -> Result<i64>;

    /// Updates data keys that were encrypted with another wrapping key, all or none.
    async fn reseal_data_keys(&self, keys: &[SealedDataKey]) -> Result<()>;
}
