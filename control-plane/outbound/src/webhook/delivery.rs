//! Delivery of anomalies to the webhook. The body is the anomaly as the API returns it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use omniflow_api_types::anomaly::AnomalyJson;
use omniflow_http_client::ClientError;
use omniflow_policy::time::UnixMillis;
use omniflow_store::{Delivery, StoreError};
use reqwest::Url;
use reqwest::header::{self, HeaderValue};
use tokio::sync::watch;
use tokio::time::sleep;
use uuid::Uuid;

use super::signing::{SecretError, SigningKey};
use crate::backoff::Backoff;
use crate::http_sink::{DeliveryError, HttpSink};
use crate::source::{DeliverySource, stable_id};

/// Interval of checks for due retries.
const PAUSE: Duration = Duration::from_secs(5);
/// Pauses between attempts.
const RETRIES: Backoff = Backoff { first: Duration::from_secs(5), max: Duration::from_secs(3_600) };
/// How long the delivery of an anomaly is retried, in milliseconds: enough for an outage over a weekend.
const GIVE_UP_MS: u64 = 3 * 24 * 3_600_000;
/// Maximum number of anomalies read at once. They are sent one by one.
const MAX_READ: usize = 20;

/// The configuration of the webhook.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// URL of the receiver.
    pub url: Url,
    /// Path of the file with the secret.
    pub secret_file: PathBuf,
}

/// A receiver of anomalies.
pub struct Webhook {
    sink: HttpSink,
    key: SigningKey,
    /// Failed attempts since the process started.
    failures: Arc<AtomicU64>,
}

/// Why an attempt failed, and how long to wait before the next one.
struct Failure {
    reason: DeliveryError,
    retry_after: Option<Duration>,
}

/// Why the webhook cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The secret is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
}

// === impl Webhook ===

impl Webhook {
    /// Sets up a receiver.
    ///
    /// # Errors
    ///
    /// Fails if the secret is not usable.
    pub fn new(settings: &WebhookSettings) -> Result<Self, WebhookError> {
        let key = SigningKey::read(&settings.secret_file)?;
        let sink = HttpSink::new(settings.url.clone(), None)?;
        Ok(Self { sink, key, failures: Arc::default() })
    }

    /// The counter of failed attempts since the process started.
    pub fn failures(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.failures)
    }

    /// Sends new anomalies when they are committed, and retries when they are due.
    pub async fn run(&self, source: DeliverySource<'_>, mut committed: watch::Receiver<()>) {
        loop {
            if let Err(error) = self.send_due(source).await {
                tracing::warn!(%error, "reading anomalies for the webhook failed, will retry");
            }
            tokio::select! {
                _ = committed.changed() => {}
                // Retries become due without a commit.
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Sends all due deliveries.
    ///
    /// # Errors
    ///
    /// Fails if the store does. An attempt that fails is not an error: it is retried later.
    pub async fn send_due(&self, source: DeliverySource<'_>) -> Result<(), StoreError> {
        let DeliverySource { installation, store, clock, entropy } = source;
        for delivery in store.due_deliveries(clock.now(), MAX_READ).await? {
            let sent = self.send(installation, &delivery, clock.now()).await;
            let mut transaction = store.begin_log().await?;
            let (id, now) = (delivery.anomaly.id, clock.now());
            match sent {
                Ok(()) => transaction.end_delivery(id).await?,
                Err(Failure { reason, .. }) if now.0.saturating_sub(delivery.since.0) >= GIVE_UP_MS => {
                    tracing::error!(anomaly = id, %reason, "webhook delivery abandoned after three days");
                    transaction.end_delivery(id).await?;
                }
                Err(Failure { reason, retry_after }) => {
                    let attempts = delivery.attempts.saturating_add(1);
                    tracing::warn!(anomaly = id, attempts, %reason, "webhook delivery failed, will retry");
                    let next = RETRIES.next_attempt(now, attempts, retry_after, entropy);
                    transaction.put_off_delivery(id, attempts, next).await?;
                }
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    async fn send(&self, installation: Uuid, delivery: &Delivery, now: UnixMillis) -> Result<(), Failure> {
        let body = serde_json::to_vec(&AnomalyJson::from(delivery.anomaly.clone())).unwrap_or_default();
        let mut headers = self.key.headers(&message_id(installation, delivery), now.0 / 1_000, &body);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let failure = match self.sink.post(headers, body).await {
            Ok(response) if (200..300).contains(&response.status) => return Ok(()),
            Ok(response) => {
                Failure { reason: self.sink.refusal(response.status), retry_after: response.retry_after }
            }
            Err(reason) => Failure { reason, retry_after: None },
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        Err(failure)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Webhook")
    }
}

/// The ID by which the receiver recognizes an anomaly that is sent again.
fn message_id(installation: Uuid, delivery: &Delivery) -> String {
    let id = stable_id(installation, "anomaly", delivery.anomaly.id, delivery.since, "");
    format!("msg_{}", id.simple())
}
