//! New findings, sent to where an operator wants them: at least once, signed, and tried again over restarts.
//!
//! The body is the finding as the API tells it. The header `omniflow-signature` is `t=SECONDS,v1=HEX`: HMAC-SHA256 with
//! the webhook's secret over the seconds since 1970, a full stop and the body. The time is in it so that a receiver can
//! refuse what somebody recorded and sends again.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use ring::hmac;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use ureq::Agent;
use ureq::http::Uri;
use zeroize::Zeroizing;

use crate::app::App;
use crate::json::finding::FindingJson;
use crate::secret_file::{self, SecretFileError};
use crate::storage::{Delivery, StorageError};

/// The header with the signature.
const SIGNATURE: &str = "omniflow-signature";
/// How long the receiver has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether something is to be sent again.
const PAUSE: Duration = Duration::from_secs(5);
/// Milliseconds before the second attempt; each further one waits twice as long.
const FIRST_RETRY_MS: u64 = 5_000;
/// The longest wait between two attempts, in milliseconds.
const LAST_RETRY_MS: u64 = 3_600_000;
/// How long a finding is tried to be delivered, in milliseconds: a weekend of an outage.
const GIVE_UP_MS: u64 = 3 * 24 * 3_600_000;
/// Findings that are sent in one go, one after the other.
const SENT_AT_ONCE: usize = 20;
/// The least bytes of a secret: below the half of SHA-256's output, guessing it becomes thinkable (RFC 2104, section 3).
const MIN_SECRET: usize = 16;

/// Where findings are sent, as an operator states it.
#[derive(Clone, Debug)]
pub(crate) struct WebhookSettings {
    /// The receiver.
    pub(crate) url: String,
    /// The file with the secret.
    pub(crate) secret_file: PathBuf,
}

/// A receiver of findings.
pub(crate) struct Webhook {
    url: String,
    key: hmac::Key,
    agent: Agent,
}

/// Why the secret of a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    /// It is not taken from its file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SecretFileError,
    },
    /// It is too short to be a secret.
    #[error("{}: shorter than {MIN_SECRET} bytes: write one with `openssl rand -hex 32`", .0.display())]
    Short(PathBuf),
}

/// Why a finding was not taken.
enum NotTaken {
    Status(u16),
    Failed(ureq::Error),
}

/// What is wrong with a URL of a webhook, if anything is.
pub(crate) fn check_url(text: &str) -> Result<(), &'static str> {
    let right = "not a URL of a webhook: write https://host/path, without a user or a password";
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
            "http:// sends findings unencrypted and is taken for receivers nearby only (an address that is \
                             loopback, private or link-local, localhost, a name without a dot): write https://",
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

/// The secret in a file, without white space around it.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<String>, WebhookError> {
    let text = secret_file::read_text(path)
        .map_err(|source| WebhookError::File { path: path.to_owned(), source })?;
    let secret = text.trim();
    if secret.len() < MIN_SECRET {
        return Err(WebhookError::Short(path.to_owned()));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

/// Sends findings until the process is asked to end.
pub(crate) async fn keep_sending(app: &App) {
    let Some(webhook) = &app.webhook else { return };
    let mut committed = app.finding_committed.subscribe();
    let until_stopped = async {
        loop {
            if let Err(error) = send_due(app, webhook).await {
                tracing::warn!(%error, "findings cannot be read for the webhook; trying again soon");
            }
            tokio::select! {
                _ = committed.changed() => {}
                // Whatever is put off is due at some time.
                () = sleep(PAUSE) => {}
            }
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = app.stopped() => {}
    }
}

/// Sends what is due by now.
pub(crate) async fn send_due(app: &App, webhook: &Webhook) -> Result<(), StorageError> {
    for delivery in app.storage.audit.due_deliveries(app.now(), SENT_AT_ONCE).await? {
        let sent = webhook.send(&delivery, app.now()).await;
        let mut writer = app.storage.audit.writer().await;
        let mut transaction = writer.begin().await?;
        let (id, now) = (delivery.finding.id, app.now());
        match sent {
            Ok(()) => transaction.end_delivery(id).await?,
            Err(reason) if now.0.saturating_sub(delivery.since.0) >= GIVE_UP_MS => {
                tracing::error!(finding = id, %reason, "the webhook did not take a finding for three days: given up");
                transaction.end_delivery(id).await?;
            }
            Err(reason) => {
                let attempts = delivery.attempts.saturating_add(1);
                tracing::warn!(finding = id, attempts, %reason, "the webhook did not take a finding; trying again");
                transaction.put_off_delivery(id, attempts, next_attempt(now, attempts)).await?;
            }
        }
        transaction.commit().await?;
    }
    Ok(())
}

fn next_attempt(now: UnixMillis, attempts: u32) -> UnixMillis {
    let factor = 2_u64.saturating_pow(attempts.saturating_sub(1));
    UnixMillis(now.0.saturating_add(FIRST_RETRY_MS.saturating_mul(factor).min(LAST_RETRY_MS)))
}

// === impl Webhook ===

impl Webhook {
    /// A receiver, with its secret.
    pub(crate) fn new(settings: &WebhookSettings) -> Result<Self, WebhookError> {
        let secret = read_secret(&settings.secret_file)?;
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // A finding goes to whom the operator named and to nobody else.
            .max_redirects(0)
            .build();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(Self { url: settings.url.clone(), key, agent: config.into() })
    }

    fn signature(&self, seconds: u64, body: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{seconds}.{body}").as_bytes());
        format!("t={seconds},v1={}", hex::encode(tag))
    }

    async fn send(&self, delivery: &Delivery, now: UnixMillis) -> Result<(), NotTaken> {
        let body = serde_json::to_string(&FindingJson::from(delivery.finding.clone())).unwrap_or_default();
        let request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header(SIGNATURE, self.signature(now.0 / 1_000, &body));
        let answer = spawn_blocking(move || request.send(body)).await;
        let Ok(answer) = answer else { return Err(NotTaken::Failed(ureq::Error::ConnectionFailed)) };
        let status = answer.map_err(NotTaken::Failed)?.status();
        if status.is_success() { Ok(()) } else { Err(NotTaken::Status(status.as_u16())) }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Webhook")
    }
}

// === impl NotTaken ===

impl fmt::Display for NotTaken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "it answered {status}"),
            Self::Failed(error) => write!(formatter, "{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Bytes;
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    use omniflow_policy::outcome::{Denial, Outcome};
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::detection::look;
    use crate::http::testing::{Plane, START, record};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

    /// Answers with these statuses, one after the other, and with 204 when there are no more.
    async fn receiver(statuses: &[u16]) -> (String, Received) {
        let received = Received::default();
        let statuses = statuses.to_vec();
        let take = move |State(received): State<Received>, headers: HeaderMap, body: Bytes| {
            let mut received = received.lock().unwrap();
            let status = statuses.get(received.len()).copied().unwrap_or(204);
            received.push((headers, body));
            // A redirect that is followed would come back here.
            let answer = (StatusCode::from_u16(status).unwrap(), [("location", "/hook")]);
            async move { answer }
        };
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&received));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url, received)
    }

    fn secret_file(folder: &Path) -> PathBuf {
        let path = folder.join("webhook-secret");
        crate::files::write_private(&path, &format!("{SECRET}\n")).unwrap();
        path
    }

    async fn plane(url: &str) -> Plane {
        let plane = Plane::new().await;
        let settings = WebhookSettings { url: url.to_owned(), secret_file: secret_file(plane.folder()) };
        plane.restart_with(|with| with.webhook = Some(settings)).await
    }

    async fn use_after_end(plane: &Plane) {
        let token = plane.token("gateway").await;
        let mut call = record(0, START, Some((Uuid::from_u128(9), "ci")));
        call.outcome = Outcome::Denied(Denial::KeyRevoked);
        plane.deliver(&token, vec![call]).await;
        look(&plane.app).await.unwrap();
    }

    async fn send(plane: &Plane) {
        send_due(&plane.app, plane.app.webhook.as_ref().unwrap()).await.unwrap();
    }

    fn check_signature(headers: &HeaderMap, body: &[u8], now: u64) {
        let text = headers[SIGNATURE].to_str().unwrap();
        let (time, tag) = text.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        assert_eq!(time.parse::<u64>().unwrap(), now / 1_000);
        let tag = hex::decode(tag).unwrap();
        let message = [time.as_bytes(), b".", body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        hmac::verify(&key, &message, &tag).unwrap();
    }

    #[tokio::test]
    async fn a_finding_is_signed_and_sent_until_it_is_taken_over_restarts_too() {
        let (url, received) = receiver(&[500, 302]).await;
        let plane = plane(&url).await;
        use_after_end(&plane).await;
        let count = || received.lock().unwrap().len();
        send(&plane).await;
        assert_eq!(count(), 1);
        send(&plane).await;
        assert_eq!(count(), 1, "not before its time");
        let settings = WebhookSettings { url, secret_file: plane.folder().join("webhook-secret") };
        let plane = plane.restart_with(|with| with.webhook = Some(settings)).await;
        for expected in [2, 3, 3] {
            plane.pass(Duration::from_secs(3_600));
            send(&plane).await;
            assert_eq!(count(), expected);
        }
        let all = received.lock().unwrap();
        for ((headers, body), hours) in all.iter().zip([0, 1, 2]) {
            check_signature(headers, body, START + hours * 3_600_000);
            let finding: Value = serde_json::from_slice(body).unwrap();
            assert_eq!((&finding["kind"], &finding["key_name"]), (&"used_after_end".into(), &"ci".into()));
            assert!(!String::from_utf8_lossy(body).contains(SECRET));
        }
    }

    #[tokio::test]
    async fn what_nobody_takes_is_given_up_after_three_days() {
        let plane = plane("http://127.0.0.1:9/nobody").await;
        use_after_end(&plane).await;
        let due = async |plane: &Plane| plane.app.storage.audit.due_deliveries(UnixMillis(u64::MAX), 9).await;
        send(&plane).await;
        assert_eq!(due(&plane).await.unwrap()[0].attempts, 1);
        plane.pass(Duration::from_secs(3 * 86_400));
        send(&plane).await;
        assert_eq!(due(&plane).await.unwrap().len(), 0);
    }

    #[test]
    fn attempts_come_later_and_later() {
        let waits = [1, 2, 3, 30].map(|attempts| next_attempt(UnixMillis(0), attempts).0);
        assert_eq!(waits, [5_000, 10_000, 20_000, LAST_RETRY_MS]);
    }

    #[test]
    fn a_secret_is_long_and_for_few_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = secret_file(folder.path());
        assert_eq!(read_secret(&path).unwrap().as_str(), SECRET);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("chmod 600"));
        secret_file::write(&path, "short");
        assert!(matches!(read_secret(&path), Err(WebhookError::Short(_))));
        assert!(matches!(read_secret(folder.path().join("none").as_path()), Err(WebhookError::File { .. })));
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
