//! Why a server cannot start or had to end.

use std::io;
use std::net::SocketAddr;

use omniflow_net::tls::TlsError;
use omniflow_outbound::otlp::OtlpError;
use omniflow_outbound::webhook::WebhookError;
use omniflow_service::publisher::BuildError;
use omniflow_service::vault::VaultError;
use omniflow_store::StoreError;
use tokio::task::JoinError;

use crate::bootstrap::BootstrapError;

/// Why a server cannot start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The webhook cannot be set up.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The export of the audit log cannot be set up.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// The data directory cannot be used.
    #[error("{}", describe_store_error(.0))]
    Storage(#[source] StoreError),
    /// The keys that seal the arguments of calls cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The first start failed.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The image of all keys cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The address is taken or cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system does not deliver signals.
    #[error("signals cannot be handled: {0}")]
    Signal(io::Error),
    /// Accepting calls failed.
    #[error("accepting calls failed: {0}")]
    Serve(#[from] io::Error),
    /// A part of the server ended by itself.
    #[error("a part of the server ended: {0}")]
    Ended(#[from] JoinError),
}

/// What the store reports, and the flag to set where it is about the data directory.
pub(crate) fn describe_store_error(error: &StoreError) -> String {
    match error {
        StoreError::InUse(_) => {
            format!("{error}: stop that process, or choose another directory with --data-dir")
        }
        error => error.to_string(),
    }
}

// === impl ServerError ===

impl From<StoreError> for ServerError {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}
