//! One key, by identifier or name.

use omniflow_domain::error::Error;
use omniflow_domain::key_details::KeyDetails;

use super::{Keys, no_such_key};
use omniflow_domain::key::KeyReference;

impl Keys {
    /// The key with this identifier or name.
    pub async fn show(&self, key: &str) -> Result<KeyDetails, Error> {
        let key = self.parts.store.key(&KeyReference::from(key)).await?.ok_or_else(no_such_key)?;
        self.details(key).await
    }
}
