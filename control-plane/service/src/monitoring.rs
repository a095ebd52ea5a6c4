//! The state of the control plane, in numbers, and whether it can serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use omniflow_domain::anomaly::AnomalyKind;
use omniflow_domain::audit::GapCause;
use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use omniflow_domain::key::KeyStatus;
use omniflow_policy::key::Environment;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::fleet::{Fleet, GatewayCounts};
use super::log_space::{LogSpace, SpaceStatus};
use super::publisher::Publisher;
use omniflow_store::{Store, StoreError};

/// The maximum age of a count of keys: it reads all of them.
const KEY_COUNT_MAX_AGE: Duration = Duration::from_secs(30);

/// Number of keys by environment and status. Zero counts may be absent.
pub type KeyCounts = Vec<(Environment, KeyStatus, u64)>;

/// Collects measurements of the control plane.
pub struct Monitoring {
    store: Arc<dyn Store>,
    publisher: Arc<Publisher>,
    fleet: Arc<Fleet>,
    clock: Clock,
    failures: DeliveryFailures,
    space: Arc<LogSpace>,
    /// The last count of keys, and when it was made.
    key_counts: Mutex<Option<(Instant, KeyCounts)>>,
}

/// Counters of failed attempts since the process began; `None` for a receiver that is not configured.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFailures {
    /// Failed attempts of the webhook.
    pub webhook: Option<Arc<AtomicU64>>,
    /// Failed attempts of the OTLP export.
    pub otlp: Option<Arc<AtomicU64>>,
}

/// The state of a ready process.
#[derive(Debug)]
pub struct Readiness {
    /// The space of the request log.
    pub space: SpaceStatus,
    /// Lower bound for the number of records that never arrived.
    pub lost_records: u64,
    /// Records that were purged because the request log reached its maximum size.
    pub purged_records: u64,
}

/// All numbers.
#[derive(Debug)]
pub struct Metrics {
    /// The version of the published snapshot.
    pub snapshot_version: u64,
    /// Keys, as of at most half a minute ago.
    pub keys: KeyCounts,
    /// Gateways by state, and those whose token expires soon.
    pub gateways: GatewayCounts,
    /// Polls of gateways since the process started.
    pub gateway_polls: u64,
    /// Requests of gateways that were refused since the process started, by the code of the problem.
    pub gateway_refusals: [(&'static str, u64); 4],
    /// Audit records that were stored.
    pub records: u64,
    /// The space of the request log.
    pub space: SpaceStatus,
    /// Number of anomalies by kind. Zero counts may be absent.
    pub anomalies: Vec<(AnomalyKind, u64)>,
    /// Number of gaps by cause, and the minimum number of missing calls. Zero counts may be absent.
    pub gaps: Vec<(GapCause, u64, u64)>,
    /// The webhook, if one is configured.
    pub webhook: Option<WebhookMetrics>,
    /// The OTLP export, if it is configured.
    pub otlp: Option<OtlpMetrics>,
}

/// The state of the webhook.
#[derive(Debug)]
pub struct WebhookMetrics {
    /// Anomalies that are not delivered yet.
    pub waiting: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// The state of the OTLP export.
#[derive(Debug)]
pub struct OtlpMetrics {
    /// Records that are not delivered yet.
    pub waiting: u64,
    /// Age of the oldest of them, in seconds.
    pub lag_seconds: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Records and gaps that were delivered.
    pub exported: u64,
    /// Records and gaps that the receiver rejected.
    pub rejected: u64,
    /// Records that were purged before they were delivered.
    pub purged: u64,
}

// === impl Monitoring ===

impl Monitoring {
    /// Measures these parts.
    pub fn new(
        store: Arc<dyn Store>,
        publisher: Arc<Publisher>,
        fleet: Arc<Fleet>,
        clock: Clock,
        failures: DeliveryFailures,
        space: Arc<LogSpace>,
    ) -> Self {
        Self { store, publisher, fleet, clock, failures, space, key_counts: Mutex::new(None) }
    }

    /// Succeeds if the process can serve: the image is built and the databases respond. Returns additional information
    /// for operators.
    pub async fn check_ready(&self) -> Result<Readiness, Error> {
        self.publisher.publication.version()?;
        self.store.ping().await?;
        let totals = self.store.gap_totals().await?;
        let sum = |is_purge: bool| {
            let of_kind = totals.iter().filter(|(cause, ..)| cause.is_purge() == is_purge);
            of_kind.map(|(_, _, calls)| *calls).fold(0, u64::saturating_add)
        };
        let (lost_records, purged_records) = (sum(false), sum(true));
        Ok(Readiness { space: self.space.status().await?, lost_records, purged_records })
    }

    /// Reads all numbers.
    pub async fn metrics(&self) -> Result<Metrics, Error> {
        let snapshot_version = self.publisher.publication.version()?;
        let store = &*self.store;
        Ok(Metrics {
            snapshot_version,
            keys: self.key_counts().await?,
            gateways: self.fleet.counts(),
            gateway_polls: self.fleet.polls(),
            gateway_refusals: self.fleet.refusals(),
            records: store.record_total().await?,
            space: self.space.status().await?,
            anomalies: store.anomaly_totals().await?,
            gaps: store.gap_totals().await?,
            webhook: self.webhook().await?,
            otlp: self.otlp().await?,
        })
    }

    /// Counts keys, unless that was done a moment ago. One count at a time: the endpoint is public.
    async fn key_counts(&self) -> Result<KeyCounts, StoreError> {
        let mut last = self.key_counts.lock().await;
        if let Some((at, counts)) = last.as_ref()
            && at.elapsed() < KEY_COUNT_MAX_AGE
        {
            return Ok(counts.clone());
        }
        let counts = self.store.key_counts(self.clock.now()).await?;
        *last = Some((Instant::now(), counts.clone()));
        Ok(counts)
    }

    async fn webhook(&self) -> Result<Option<WebhookMetrics>, StoreError> {
        let Some(failures) = &self.failures.webhook else { return Ok(None) };
        let waiting = self.store.waiting_deliveries().await?;
        Ok(Some(WebhookMetrics { waiting, failures: failures.load(Ordering::Relaxed) }))
    }

    async fn otlp(&self) -> Result<Option<OtlpMetrics>, StoreError> {
        let store = &*self.store;
        let Some(failures) = &self.failures.otlp else { return Ok(None) };
        let Some(place) = store.export_place().await? else { return Ok(None) };
        let backlog = store.export_backlog(&place).await?;
        let lag = backlog.oldest.map_or(0, |oldest| self.clock.now().0.saturating_sub(oldest.0) / 1_000);
        Ok(Some(OtlpMetrics {
            waiting: backlog.records,
            lag_seconds: lag,
            failures: failures.load(Ordering::Relaxed),
            exported: place.exported,
            rejected: place.rejected,
            purged: place.purged,
        }))
    }
}
