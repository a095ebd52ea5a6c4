//! `GET /metrics`: numbers for Prometheus, in its text format. Open to everybody, so no key or gateway is named.
//!
//! A handful of numbers that are at hand when they are asked for: a registry would have nothing to keep.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, header};
use omniflow_policy::key::Environment;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::http::problem::Problem;
use crate::service::app::App;
use crate::storage::{ExportPlace, StorageError};
use omniflow_domain::audit::GapCause;
use omniflow_domain::finding::FindingKind;
use omniflow_domain::key::KeyStatus;

/// What Prometheus calls its text format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How old a count of keys becomes: it reads all of them.
const COUNTED_EVERY: Duration = Duration::from_secs(30);

/// How many keys there are of each environment and status.
type Counts = Vec<(Environment, KeyStatus, u64)>;

/// The last count of keys, and when it was made.
#[derive(Debug, Default)]
pub(crate) struct KeyCounts(Mutex<Option<(Instant, Counts)>>);

/// The text as it grows.
#[derive(Default)]
struct Numbers(String);

/// Tells a few numbers in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    responses((status = 200, body = String, content_type = "text/plain", description = "The numbers.")),
)]
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let mut numbers = Numbers::default();
    numbers.plain(
        "omf_snapshot_version",
        "gauge",
        "The version of the snapshot that gateways are given.",
        app.publisher.publication.version()?,
    );
    keys_and_gateways(&app, &mut numbers).await?;
    audit_log(&app, &mut numbers).await?;
    edge(&app, &mut numbers);
    sent(&app, &mut numbers).await?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], numbers.0))
}

async fn keys_and_gateways(app: &App, numbers: &mut Numbers) -> Result<(), StorageError> {
    let counts = app.key_counts.read(app).await?;
    let keys: Vec<_> = Environment::ALL
        .into_iter()
        .flat_map(|environment| KeyStatus::ALL.map(|status| (environment, status)))
        .map(|(environment, status)| {
            let found = counts.iter().find(|(one, other, _)| (*one, *other) == (environment, status));
            let labels =
                format!("{{environment=\"{}\",status=\"{}\"}}", environment.as_str(), status.as_str());
            (labels, found.map_or(0, |(_, _, keys)| *keys))
        })
        .collect();
    numbers.add("omf_keys", "gauge", "Keys, as of half a minute ago at most.", &keys);
    let (live, silent) = app.fleet.counts();
    let gateways =
        [("live", live), ("silent", silent)].map(|(state, n)| (format!("{{state=\"{state}\"}}"), n));
    numbers.add("omf_gateways", "gauge", "Runs of gateways that were heard of in the last day.", &gateways);
    Ok(())
}

async fn audit_log(app: &App, numbers: &mut Numbers) -> Result<(), StorageError> {
    let audit = &app.storage.audit;
    let records = audit.record_total().await?;
    numbers.plain("omf_audit_records_total", "counter", "Audit records that were stored.", records);
    let found = audit.finding_totals().await?;
    let findings = FindingKind::ALL.map(|kind| {
        let total = found.iter().find(|(found, _)| *found == kind).map_or(0, |(_, total)| *total);
        (format!("{{kind=\"{}\"}}", kind.as_str()), total)
    });
    numbers.add(
        "omf_audit_findings_total",
        "counter",
        "Patterns that were found in the use of keys.",
        &findings,
    );
    let found = audit.gap_totals().await?;
    let of = |cause| {
        found.iter().find(|(found, ..)| *found == cause).map_or((0, 0), |(_, gaps, calls)| (*gaps, *calls))
    };
    let label = |cause: GapCause| format!("{{cause=\"{}\"}}", cause.as_str());
    let gaps = GapCause::ALL.map(|cause| (label(cause), of(cause).0));
    let calls = GapCause::ALL.map(|cause| (label(cause), of(cause).1));
    numbers.add(
        "omf_audit_gaps_total",
        "counter",
        "Gaps in the audit log, those that were withdrawn included.",
        &gaps,
    );
    numbers.add(
        "omf_audit_missing_calls_total",
        "counter",
        "Calls that these gaps say are missing, at least.",
        &calls,
    );
    Ok(())
}

/// Who knocks.
fn edge(app: &App, numbers: &mut Numbers) {
    let open = u64::try_from(app.admission.open()).unwrap_or(u64::MAX);
    numbers.plain("omf_connections", "gauge", "Connections that are open.", open);
    numbers.plain(
        "omf_connections_ended_total",
        "counter",
        "Connections that were ended because there were too many.",
        app.admission.evicted(),
    );
    let failed = app.authentication.failures();
    numbers.add(
        "omf_failed_authentications_total",
        "counter",
        "Tokens that were refused as not valid, and whether too many came from the same address.",
        &[
            ("{throttled=\"false\"}".to_owned(), failed.answered),
            ("{throttled=\"true\"}".to_owned(), failed.throttled),
        ],
    );
}

/// What goes to receivers that the operator named.
async fn sent(app: &App, numbers: &mut Numbers) -> Result<(), StorageError> {
    let audit = &app.storage.audit;
    if let Some(webhook) = &app.webhook {
        let waiting = audit.waiting_deliveries().await?;
        numbers.plain(
            "omf_webhook_waiting_findings",
            "gauge",
            "Findings that the webhook has yet to take.",
            waiting,
        );
        let failures = webhook.failures();
        numbers.plain(
            "omf_webhook_failures_total",
            "counter",
            "Attempts that the webhook did not take.",
            failures,
        );
    }
    if let (Some(exporter), Some(place)) = (&app.exporter, audit.export_place().await?) {
        let backlog = audit.export_backlog(&place).await?;
        let lag = backlog.oldest.map_or(0, |oldest| app.now().0.saturating_sub(oldest.0) / 1_000);
        let waiting = backlog.records;
        numbers.plain(
            "omf_otlp_waiting_records",
            "gauge",
            "Records that the OTLP receiver has yet to take.",
            waiting,
        );
        numbers.plain("omf_otlp_lag_seconds", "gauge", "Age of the oldest of them.", lag);
        let failures = exporter.failures();
        numbers.plain(
            "omf_otlp_failures_total",
            "counter",
            "Requests that the OTLP receiver did not take.",
            failures,
        );
        let ExportPlace { exported, rejected, purged, .. } = place;
        numbers.plain("omf_otlp_exported_total", "counter", "Records and gaps that it took.", exported);
        numbers.plain(
            "omf_otlp_rejected_total",
            "counter",
            "Records and gaps that it did not want.",
            rejected,
        );
        numbers.plain(
            "omf_otlp_purged_total",
            "counter",
            "Records that were purged before it took them.",
            purged,
        );
    }
    Ok(())
}

// === impl KeyCounts ===

impl KeyCounts {
    /// Counts keys, unless that was done a moment ago. One count at a time: anybody can ask.
    async fn read(&self, app: &App) -> Result<Counts, StorageError> {
        let mut last = self.0.lock().await;
        if let Some((at, counts)) = last.as_ref()
            && at.elapsed() < COUNTED_EVERY
        {
            return Ok(counts.clone());
        }
        let counts = app.storage.main.key_counts(app.now()).await?;
        *last = Some((Instant::now(), counts.clone()));
        Ok(counts)
    }
}

// === impl Numbers ===

impl Numbers {
    fn plain(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.add(name, kind, help, &[(String::new(), value)]);
    }

    fn add(&mut self, name: &str, kind: &str, help: &str, values: &[(String, u64)]) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}
