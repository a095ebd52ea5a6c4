//! Receivers that an operator names, to which this process sends by itself: of anomalies, and of the audit log.
//!
//! What goes there leaves the installation. So it goes to whom the operator named and to nobody else, and unencrypted only
//! where it stays nearby. What a receiver does not take is sent again, later and later.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::fmt::rfc2822;
use omniflow_policy::time::UnixMillis;
use omniflow_trust::{CaFileError, read_ca_file};
use tokio::task::spawn_blocking;
use ureq::Agent;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use omniflow_files::secret;

/// How long a receiver has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of an answer that are read.
const MAX_ANSWER: u64 = 64 * 1024;
/// The longest that a receiver may ask to be left alone.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Where something is sent.
pub struct HttpSink {
    url: String,
    agent: Agent,
}

/// What a receiver has answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The body, unless it is too long.
    pub body: Vec<u8>,
}

/// Why something was not taken.
#[derive(Debug)]
pub enum DeliveryError {
    /// It answered otherwise.
    Status(u16),
    /// There was no answer.
    Failed(ureq::Error),
}

/// How long it is waited before something is sent again.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure; after each further one twice as long.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

/// Why a file with a secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct SecretFileError {
    /// Which file.
    path: PathBuf,
    /// Why.
    source: secret::SecretFileError,
}

/// What is wrong with the URL of a receiver, if anything is.
pub fn check_url(text: &str) -> Result<(), &'static str> {
    let right = "not a URL to send to: write https://host/path, without a user or a password";
    let uri: Uri = text.parse().map_err(|_| right)?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if !has_host || !is_plain {
        return Err(right);
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if uri.host().is_some_and(is_nearby) => Ok(()),
        Some("http") => Err(
            "http:// sends unencrypted and is taken for receivers nearby only (an address that is loopback, private \
             or link-local, localhost, a name without a dot): write https://",
        ),
        _ => Err(right),
    }
}

/// Whether what is sent there stays in the operator's own network, as far as a URL can tell.
fn is_nearby(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address.map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        // A number, such as 134744072 or 0x08080808, is an address to most resolvers.
        Err(_) => !host.contains('.') && host.starts_with(|first: char| first.is_ascii_alphabetic()),
    }
}

/// What stands in a file that only few may read.
pub fn read_secret_file(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    secret::read_text(path).map_err(|source| SecretFileError { path: path.to_owned(), source })
}

/// Trust in the certificates of this file, or in the public ones.
pub fn trusting(ca_file: Option<&Path>) -> Result<TlsConfig, CaFileError> {
    let config = TlsConfig::builder();
    let Some(path) = ca_file else { return Ok(config.build()) };
    let roots = read_ca_file(path)?;
    let roots: Vec<_> = roots.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    Ok(config.root_certs(RootCerts::new_with_certs(&roots)).build())
}

// === impl HttpSink ===

impl HttpSink {
    /// A receiver at a URL that [`check_url`] takes.
    pub fn new(url: &str, tls: TlsConfig) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // To whom the operator named and to nobody else.
            .max_redirects(0)
            .tls_config(tls)
            .user_agent(concat!("omf/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { url: url.to_owned(), agent: config.into() }
    }

    /// Sends a body, off the threads that serve requests, and gives whatever is answered.
    pub async fn post(&self, headers: HeaderMap, body: Vec<u8>) -> Result<Answer, DeliveryError> {
        let mut request = self.agent.post(&self.url);
        if let Some(all) = request.headers_mut() {
            all.extend(headers);
        }
        let answer = spawn_blocking(move || {
            let mut answer = request.send(body)?;
            let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
            Ok((answer, body.unwrap_or_default()))
        });
        match answer.await {
            Ok(Ok((answer, body))) => {
                Ok(Answer { status: answer.status().as_u16(), retry_after: retry_after(&answer), body })
            }
            Ok(Err(error)) => Err(DeliveryError::Failed(error)),
            Err(_) => Err(DeliveryError::Failed(ureq::Error::ConnectionFailed)),
        }
    }
}

impl fmt::Debug for HttpSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL of a webhook is often a secret.
        formatter.write_str("HttpSink")
    }
}

/// `Retry-After`, in seconds or as a date, which counts from the receiver's own.
fn retry_after<T>(answer: &Response<T>) -> Option<Duration> {
    let text = |name| answer.headers().get(name)?.to_str().ok();
    let date = |text: &str| rfc2822::parse(text).ok().map(|date| date.timestamp());
    let asked = text(header::RETRY_AFTER)?;
    let asked = match asked.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let (until, from) = (date(asked)?, date(text(header::DATE)?)?);
            Duration::try_from(until.duration_since(from)).ok()?
        }
    };
    Some(asked.min(MAX_RETRY_AFTER))
}

// === impl Backoff ===

impl Backoff {
    /// The pause after so many failures in a row, the longer of what is usual and what the receiver asks for.
    pub fn after(self, failures: u32, asked: Option<Duration>) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        let usual = self.first.saturating_mul(factor).min(self.longest);
        usual.max(asked.unwrap_or_default())
    }

    /// The instant of the next attempt.
    pub fn next(self, now: UnixMillis, failures: u32, asked: Option<Duration>) -> UnixMillis {
        let pause = u64::try_from(self.after(failures, asked).as_millis()).unwrap_or(u64::MAX);
        UnixMillis(now.0.saturating_add(pause))
    }
}

// === impl DeliveryError ===

impl fmt::Display for DeliveryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "it answered {status}"),
            Self::Failed(error) => write!(formatter, "{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_later_and_later_and_never_before_the_receiver_wants() {
        let pauses = Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(3_600) };
        let waits = [1, 2, 3, 30].map(|failures| pauses.after(failures, None).as_secs());
        assert_eq!(waits, [5, 10, 20, 3_600]);
        assert_eq!(pauses.after(1, Some(Duration::from_secs(7))).as_secs(), 7);
        assert_eq!(pauses.after(3, Some(Duration::from_secs(7))).as_secs(), 20);
        assert_eq!(pauses.next(UnixMillis(1), 2, None).0, 10_001);
    }

    #[test]
    fn what_a_receiver_asks_for_is_read_in_both_forms_and_bounded() {
        let asked = |value: &str, date: &str| {
            let answer =
                Response::builder().header("retry-after", value).header("date", date).body(()).unwrap();
            retry_after(&answer).map(|asked| asked.as_secs())
        };
        let date = "Fri, 15 Jan 2027 08:00:00 GMT";
        assert_eq!(asked("120", date), Some(120));
        assert_eq!(asked("Fri, 15 Jan 2027 08:00:30 GMT", date), Some(30));
        assert_eq!(asked("Fri, 15 Jan 2027 07:00:00 GMT", date), None, "it is over");
        assert_eq!(asked("86400", date), Some(3_600));
        assert_eq!(asked("soon", date), None);
    }

    #[test]
    fn a_url_has_a_host_and_no_password() {
        for right in ["https://example.com/x", "http://127.0.0.1:1/", "https://[::1]:2/a?b=c"] {
            assert_eq!(check_url(right), Ok(()), "{right}");
        }
        for wrong in
            ["", "/x", "ftp://x/y", "https://", "https://me:word@x/y", "http://me:word@localhost/y", "x"]
        {
            assert!(check_url(wrong).unwrap_err().contains("write https://host/path"), "{wrong}");
        }
    }

    #[test]
    fn a_receiver_that_is_not_nearby_gets_nothing_unencrypted() {
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
            assert_eq!(check_url(&format!("http://{near}/x")), Ok(()), "{near}");
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
        ] {
            assert!(check_url(&format!("http://{far}/x")).unwrap_err().contains("nearby only"), "{far}");
            assert_eq!(check_url(&format!("https://{far}/x")), Ok(()), "{far}");
        }
    }
}
