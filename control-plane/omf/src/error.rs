//! Why a server cannot start or had to stop.

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

/// Why a server cannot start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The certificate or its key is not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The webhook cannot be set up.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The export of the audit log cannot be set up.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// The data directory is not usable.
    #[error("{}", describe_store_error(.0))]
    Storage(#[source] StoreError),
    /// The keys that encrypt arguments of calls are not usable.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The first start failed.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The image of all keys cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The address is in use or not available.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// No signal handler can be installed.
    #[error("cannot install a signal handler: {0}")]
    Signal(io::Error),
    /// Accepting connections failed.
    #[error("accepting connections failed: {0}")]
    Serve(#[from] io::Error),
    /// A task of the server ended unexpectedly.
    #[error("a task of the server ended unexpectedly: {0}")]
    Ended(#[from] JoinError),
}

/// The message of a store error, with what to do if the data directory is in use or of a newer release.
pub(crate) fn describe_store_error(error: &StoreError) -> String {
    match error {
        StoreError::InUse(_) => {
            format!("{error}; stop that process or choose another directory with --data-dir")
        }
        StoreError::NewerRelease { .. } => format!(
            "{error}; use that release or a newer one, or go back with the backup taken before the upgrade: omf db restore \
             BACKUP --replace"
        ),
        error => error.to_string(),
    }
}

// === impl ServerError ===

impl From<StoreError> for ServerError {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}
