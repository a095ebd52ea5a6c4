//! New findings, sent to where an operator wants them: at least once, signed, and tried again over restarts.
//!
//! The body is the finding as the API tells it. The header `omniflow-signature` is `t=SECONDS,v1=HEX`: HMAC-SHA256 with
//! the webhook's secret over the seconds since 1970, a full stop and the body. The time is in it so that a receiver can
//! refuse what somebody recorded and sends again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use ring::hmac;
use tokio::sync::watch;
use tokio::time::sleep;
use ureq::http::{HeaderMap, HeaderValue, header};
use ureq::tls::TlsConfig;
use zeroize::Zeroizing;

use super::http_sink::{Backoff, DeliveryError, HttpSink, SecretFileError, read_secret_file};
use omniflow_api_types::finding::FindingJson;
use omniflow_domain::clock::Clock;
use omniflow_store::{Delivery, Store, StoreError};

/// The header with the signature.
const SIGNATURE: &str = "omniflow-signature";
/// How often it is looked whether something is to be sent again.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two attempts.
const RETRIES: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(3_600) };
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
    sink: HttpSink,
    key: hmac::Key,
    /// Attempts that failed since the process began.
    failures: Arc<AtomicU64>,
}

/// Why a finding was not taken, and how long the receiver wants to be left alone.
struct Refused {
    reason: DeliveryError,
    retry_after: Option<Duration>,
}

/// Why the secret of a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    /// It cannot be read, or everybody can.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// It is too short to be a secret.
    #[error("{}: shorter than {MIN_SECRET} bytes: write one with `openssl rand -hex 32`", .0.display())]
    Short(PathBuf),
}

/// The secret in a file, without white space around it.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<String>, WebhookError> {
    let text = read_secret_file(path)?;
    let secret = text.trim();
    if secret.len() < MIN_SECRET {
        return Err(WebhookError::Short(path.to_owned()));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

// === impl Webhook ===

impl Webhook {
    /// A receiver, with its secret.
    pub(crate) fn new(settings: &WebhookSettings) -> Result<Self, WebhookError> {
        let secret = read_secret(&settings.secret_file)?;
        let sink = HttpSink::new(&settings.url, TlsConfig::builder().build());
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(Self { sink, key, failures: Arc::default() })
    }

    /// Attempts that failed since the process began.
    pub(crate) fn failures(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.failures)
    }

    /// Sends new anomalies whenever some were committed, and those that were put off when they are due.
    pub(crate) async fn run(&self, store: &dyn Store, clock: &Clock, mut committed: watch::Receiver<()>) {
        loop {
            if let Err(error) = self.send_due(store, clock).await {
                tracing::warn!(%error, "anomalies cannot be read for the webhook; trying again soon");
            }
            tokio::select! {
                _ = committed.changed() => {}
                // Whatever is put off is due at some time.
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Sends what is due by now.
    pub(crate) async fn send_due(&self, store: &dyn Store, clock: &Clock) -> Result<(), StoreError> {
        for delivery in store.due_deliveries(clock.now(), SENT_AT_ONCE).await? {
            let sent = self.send(&delivery, clock.now()).await;
            let mut transaction = store.begin_log().await?;
            let (id, now) = (delivery.finding.id, clock.now());
            match sent {
                Ok(()) => transaction.end_delivery(id).await?,
                Err(Refused { reason, .. }) if now.0.saturating_sub(delivery.since.0) >= GIVE_UP_MS => {
                    tracing::error!(anomaly = id, %reason, "webhook delivery given up after three days");
                    transaction.end_delivery(id).await?;
                }
                Err(Refused { reason, retry_after }) => {
                    let attempts = delivery.attempts.saturating_add(1);
                    tracing::warn!(anomaly = id, attempts, %reason, "webhook delivery failed; trying again");
                    let next = RETRIES.next(now, attempts, retry_after);
                    transaction.put_off_delivery(id, attempts, next).await?;
                }
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    fn signature(&self, seconds: u64, body: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{seconds}.{body}").as_bytes());
        format!("t={seconds},v1={}", hex::encode(tag))
    }

    async fn send(&self, delivery: &Delivery, now: UnixMillis) -> Result<(), Refused> {
        let body = serde_json::to_string(&FindingJson::from(delivery.finding.clone())).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(signature) = HeaderValue::try_from(self.signature(now.0 / 1_000, &body)) {
            headers.insert(SIGNATURE, signature);
        }
        let refused = match self.sink.post(headers, body.into_bytes()).await {
            Ok(answer) if (200..300).contains(&answer.status) => return Ok(()),
            Ok(answer) => {
                Refused { reason: DeliveryError::Status(answer.status), retry_after: answer.retry_after }
            }
            Err(reason) => Refused { reason, retry_after: None },
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        Err(refused)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Webhook")
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
        omniflow_files::private::write_private(&path, &format!("{SECRET}\n")).unwrap();
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
        plane.detect_anomalies().await;
    }

    async fn send(plane: &Plane) {
        let (app, webhook) = (&plane.app, plane.app.webhook.as_ref().unwrap());
        webhook.send_due(&*app.store, &app.clock).await.unwrap();
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
        let due = async |plane: &Plane| plane.app.store.due_deliveries(UnixMillis(u64::MAX), 9).await;
        send(&plane).await;
        assert_eq!(due(&plane).await.unwrap()[0].attempts, 1);
        plane.pass(Duration::from_secs(3 * 86_400));
        send(&plane).await;
        assert_eq!(due(&plane).await.unwrap().len(), 0);
    }

    #[test]
    fn a_secret_is_long_and_for_few_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = secret_file(folder.path());
        assert_eq!(read_secret(&path).unwrap().as_str(), SECRET);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("chmod 600"));
        omniflow_files::private::write_private(&path, "short").unwrap();
        assert!(matches!(read_secret(&path), Err(WebhookError::Short(_))));
        assert!(matches!(read_secret(folder.path().join("none").as_path()), Err(WebhookError::File(_))));
    }
}
