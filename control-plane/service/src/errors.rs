//! Conversion of component failures to errors of the use cases. The failure is logged here; the principal gets a
//! sentence.

use omniflow_domain::error::{Error, ErrorCode};

use crate::publication::NotReady;
use crate::publisher::PublishError;
use crate::vault::VaultError;

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Storage(error) => error.into(),
            VaultError::Entropy(error) => error.into(),
            VaultError::KeyMissing(_) => {
                Self::new(ErrorCode::PayloadUnreadable, format!("The payload cannot be read: {error}."))
            }
            error => {
                tracing::error!(%error, "payload encryption or decryption failed");
                Self::internal()
            }
        }
    }
}

impl From<NotReady> for Error {
    fn from(_: NotReady) -> Self {
        Self::new(ErrorCode::NotReady, "The control plane is starting. Try again in a second.")
    }
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::NotReady(not_ready) => not_ready.into(),
            error => {
                tracing::error!(%error, "change not published");
                Self::internal()
            }
        }
    }
}
