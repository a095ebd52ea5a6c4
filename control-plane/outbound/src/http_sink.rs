//! Sends requests to a receiver that the operator configured.
//!
//! The data leaves the installation. It is sent only to the configured URL, and unencrypted only within the operator's
//! network.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::fmt::rfc2822;
use omniflow_files::secret;
use omniflow_http_client::{ClientError, new_client, proxy_of, read_body, root_cause};
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Client, Url};
use zeroize::Zeroizing;

/// Time for a whole request, including its response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest response body that is read, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Longest pause that a receiver can request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// A URL to which bodies are sent.
pub struct HttpSink {
    url: Url,
    client: Client,
}

/// The response of a receiver.
#[derive(Debug)]
pub struct SinkResponse {
    /// The status code.
    pub status: u16,
    /// How long to wait before the next request, from `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The body. Empty if it was too long or incomplete.
    pub body: Vec<u8>,
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The receiver responded with an error status.
    #[error("the receiver responded with status {status}{}", through(.proxy))]
    Status {
        /// The status code.
        status: u16,
        /// The proxy of the request, which may have responded itself.
        proxy: Option<String>,
    },
    /// The receiver did not respond.
    #[error("{}{}", root_cause(.error), through(.proxy))]
    Failed {
        /// The error, without the URL.
        error: reqwest::Error,
        /// The proxy of the request, which may be the cause.
        proxy: Option<String>,
    },
}

/// The part of an error message that names the proxy; empty without a proxy.
fn through(proxy: &Option<String>) -> String {
    proxy.as_ref().map_or_else(String::new, |proxy| {
        format!(" (through the proxy {proxy}; list the receiver in NO_PROXY to call it directly)")
    })
}

/// Why a file with a secret is not usable.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct SecretFileError {
    /// Path of the file.
    path: PathBuf,
    /// The cause.
    source: secret::SecretFileError,
}

/// Parses the URL of a receiver, as the HTTP client does when it connects.
///
/// # Errors
///
/// Explains how to write the URL if it has no host, contains credentials, or sends unencrypted to a remote host.
pub fn parse_url(text: &str) -> Result<Url, &'static str> {
    let malformed = "not the URL of a receiver; use https://host/path, without a user name or password";
    let url = Url::parse(text).map_err(|_| malformed)?;
    let host = url.host_str().ok_or(malformed)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(malformed);
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_nearby(host) => Ok(url),
        "http" => Err(
            "http:// is unencrypted and accepted only for local receivers (a loopback, private or link-local \
             address, localhost, or a name without a dot); use https://",
        ),
        _ => Err(malformed),
    }
}

/// Whether a host is within the operator's network, as far as a URL shows. The URL parser normalizes addresses in other
/// notations, such as 134744072 or 0x08080808.
fn is_nearby(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address.map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        Err(_) => !host.contains('.'),
    }
}

/// Reads a file with a secret, which must not be readable for all users.
///
/// # Errors
///
/// Fails if the file cannot be read, or has unsafe permissions.
pub fn read_secret_file(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    secret::read_text(path).map_err(|source| SecretFileError { path: path.to_owned(), source })
}

// === impl HttpSink ===

impl HttpSink {
    /// Creates a sink for a URL from [`parse_url`]. The certificate of the receiver is verified with the CA certificates in
    /// `ca_file`, or with the public ones.
    ///
    /// # Errors
    ///
    /// Fails if the CA file cannot be used.
    pub fn new(url: Url, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        Ok(Self { url, client: new_client(ca_file, TIMEOUT)? })
    }

    /// The error for a response with an error status.
    pub fn refusal(&self, status: u16) -> DeliveryError {
        DeliveryError::Status { status, proxy: proxy_of(&self.url) }
    }

    /// Sends a body and returns the response, whatever its status.
    ///
    /// # Errors
    ///
    /// Fails if there is no response within 10 s.
    pub async fn post(&self, headers: HeaderMap, body: Vec<u8>) -> Result<SinkResponse, DeliveryError> {
        let request = self.client.post(self.url.clone()).headers(headers).body(body).timeout(TIMEOUT);
        // The URL of a webhook often contains a secret.
        let response = request.send().await.map_err(|error| DeliveryError::Failed {
            error: error.without_url(),
            proxy: proxy_of(&self.url),
        })?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        // Only the status determines success. The body may explain it.
        let body = read_body(response, MAX_BODY).await.ok().flatten().unwrap_or_default();
        Ok(SinkResponse { status, retry_after, body })
    }
}

impl fmt::Debug for HttpSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HttpSink")
    }
}

/// `Retry-After`: seconds, or a date that is compared with the receiver's own `Date`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let date = |text: &str| rfc2822::parse(text).ok().map(|date| date.timestamp());
    let retry_after = text(header::RETRY_AFTER)?;
    let pause = match retry_after.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let (until, from) = (date(retry_after)?, date(text(header::DATE)?)?);
            Duration::try_from(until.duration_since(from)).ok()?
        }
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let pause = |value: &str, date: &str| {
            let headers = HeaderMap::from_iter([
                (header::RETRY_AFTER, value.parse().unwrap()),
                (header::DATE, date.parse().unwrap()),
            ]);
            retry_after(&headers).map(|pause| pause.as_secs())
        };
        let date = "Fri, 15 Jan 2027 08:00:00 GMT";
        assert_eq!(pause("120", date), Some(120));
        assert_eq!(pause("Fri, 15 Jan 2027 08:00:30 GMT", date), Some(30));
        assert_eq!(pause("Fri, 15 Jan 2027 07:00:00 GMT", date), None, "it has passed");
        assert_eq!(pause("86400", date), Some(3_600));
        assert_eq!(pause("soon", date), None);
    }

    #[test]
    fn a_url_has_a_host_and_no_password() {
        for right in ["https://example.com/x", "http://127.0.0.1:1/", "https://[::1]:2/a?b=c"] {
            assert_eq!(parse_url(right).unwrap().as_str(), right);
        }
        for wrong in
            ["", "/x", "ftp://x/y", "https://", "https://me:word@x/y", "http://me:word@localhost/y", "x"]
        {
            assert!(parse_url(wrong).unwrap_err().contains("use https://host/path"), "{wrong}");
        }
    }

    #[test]
    fn only_a_receiver_nearby_gets_anything_unencrypted() {
        for near in [
            "localhost:8080",
            "127.1.2.3",
            "10.0.0.1",
            "172.31.0.1:1",
            "192.168.1.1",
            "169.254.0.1",
            "[::1]",
            "[fd00::1]:1",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
            "alerts",
            "my-receiver:9000",
        ] {
            assert!(parse_url(&format!("http://{near}/x")).is_ok(), "{near}");
        }
        for far in [
            "example.com",
            "localhost.example.com",
            "172.32.0.1",
            "8.8.8.8:80",
            "0.0.0.0",
            "[2001:db8::1]",
            "[::ffff:8.8.8.8]",
            "134744072",
            "0x08080808",
            "8.526344",
        ] {
            assert!(parse_url(&format!("http://{far}/x")).unwrap_err().contains("local receivers"), "{far}");
            assert!(parse_url(&format!("https://{far}/x")).is_ok(), "{far}");
        }
    }
}
