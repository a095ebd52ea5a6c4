//! Configuration of the HTTP client, and reading of bodies with a maximum length.

use std::path::Path;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Proxy, Response};

use crate::failure::root_cause;
use crate::proxy::Proxies;
use crate::trust::{CaFileError, public_roots, read_ca_file, tls_config};

/// Why the client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA certificates are not usable.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The client cannot be set up.
    #[error("cannot set up the HTTP client: {}", root_cause(.0))]
    Http(#[from] reqwest::Error),
}

/// Sets up a client that trusts the CA certificates in a file, or the public ones, with a timeout for connecting. Each
/// request sets its own timeout, unless its response is a stream. Proxies are taken from the environment, except for
/// requests to this machine (see the module `proxy`).
///
/// # Errors
///
/// Fails if the CA file is not usable.
pub fn new_client(ca_file: Option<&Path>, connect_timeout: Duration) -> Result<Client, ClientError> {
    let roots = ca_file.map(read_ca_file).transpose()?.unwrap_or_else(public_roots);
    let proxies = Proxies::of_environment();
    let client = Client::builder()
        .proxy(Proxy::custom(|url| proxies.of(url).cloned()))
        .tls_backend_preconfigured(tls_config(roots)?)
        .connect_timeout(connect_timeout)
        // No redirects: credentials and content are sent to the configured address only.
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
