//! The configuration of the client, and bodies of limited length.

use std::path::Path;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Proxy, Response};

use crate::failure::root_cause;
use crate::proxy::Proxies;
use crate::trust::{CaFileError, public_roots, read_ca_file, tls_config};

/// Why no client can be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA certificates cannot be used.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The client cannot be set up.
    #[error("the HTTP client cannot be set up: {}", root_cause(.0))]
    Http(#[from] reqwest::Error),
}

/// Sets up a client that trusts the CA certificates of a file, or the public ones, and gives up connecting after
/// `connect_timeout`. Each request sets its own timeout, unless its response is read for as long as it takes. Proxies are
/// those of the environment, except for calls of this machine (see the module `proxy`).
///
/// # Errors
///
/// Fails if the CA file cannot be used.
pub fn new_client(ca_file: Option<&Path>, connect_timeout: Duration) -> Result<Client, ClientError> {
    let roots = ca_file.map(read_ca_file).transpose()?.unwrap_or_else(public_roots);
    let proxies = Proxies::of_environment();
    let client = Client::builder()
        .proxy(Proxy::custom(|url| proxies.of(url).cloned()))
        .tls_backend_preconfigured(tls_config(roots)?)
        .connect_timeout(connect_timeout)
        // Credentials and content go to the configured address and nowhere else.
        .redirect(Policy::none())
        .referer(false)
        .user_agent(concat!("omf/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// Reads a body of at most `max` bytes. `None` if it is longer.
///
/// # Errors
///
/// Fails if the connection is lost, or the request's timeout expires.
pub async fn read_body(mut response: Response, max: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > max - body.len() {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}
