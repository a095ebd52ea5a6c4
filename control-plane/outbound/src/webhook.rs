//! New anomalies, sent to where an operator wants them: at least once, signed, and tried again over restarts.
//!
//! The body is the anomaly as the API tells it. The header `omniflow-signature` is `t=SECONDS,v1=HEX`: HMAC-SHA256 with
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
use omniflow_api_types::anomaly::AnomalyJson;
use omniflow_domain::clock::Clock;
use omniflow_store::{Delivery, Store, StoreError};

/// The header with the signature.
pub const SIGNATURE: &str = "omniflow-signature";
/// How often it is looked whether something is to be sent again.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two attempts.
const RETRIES: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(3_600) };
/// How long an anomaly is tried to be delivered, in milliseconds: a weekend of an outage.
const GIVE_UP_MS: u64 = 3 * 24 * 3_600_000;
/// Anomalies that are sent in one go, one after the other.
const SENT_AT_ONCE: usize = 20;
/// The least bytes of a secret: below the half of SHA-256's output, guessing it becomes thinkable (RFC 2104, section 3).
const MIN_SECRET: usize = 16;

/// Where anomalies are sent, as an operator states it.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// The receiver.
    pub url: String,
    /// The file with the secret.
    pub secret_file: PathBuf,
}

/// A receiver of anomalies.
pub struct Webhook {
    sink: HttpSink,
    key: hmac::Key,
    /// Attempts that failed since the process began.
    failures: Arc<AtomicU64>,
}

/// Why an anomaly was not taken, and how long the receiver wants to be left alone.
struct Refused {
    reason: DeliveryError,
    retry_after: Option<Duration>,
}

/// Why the secret of a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It cannot be read, or everybody can.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// It is too short to be a secret.
    #[error("{}: shorter than {MIN_SECRET} bytes: write one with `openssl rand -hex 32`", .0.display())]
    Short(PathBuf),
}

/// The secret in a file, without white space around it.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, WebhookError> {
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
    pub fn new(settings: &WebhookSettings) -> Result<Self, WebhookError> {
        let secret = read_secret(&settings.secret_file)?;
        let sink = HttpSink::new(&settings.url, TlsConfig::builder().build());
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(Self { sink, key, failures: Arc::default() })
    }

    /// Attempts that failed since the process began.
    pub fn failures(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.failures)
    }

    /// Sends new anomalies whenever some were committed, and those that were put off when they are due.
    pub async fn run(&self, store: &dyn Store, clock: &Clock, mut committed: watch::Receiver<()>) {
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
    pub async fn send_due(&self, store: &dyn Store, clock: &Clock) -> Result<(), StoreError> {
        for delivery in store.due_deliveries(clock.now(), SENT_AT_ONCE).await? {
            let sent = self.send(&delivery, clock.now()).await;
            let mut transaction = store.begin_log().await?;
            let (id, now) = (delivery.anomaly.id, clock.now());
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
        let body = serde_json::to_string(&AnomalyJson::from(delivery.anomaly.clone())).unwrap_or_default();
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
