//! `GET /metrics`: numbers for Prometheus, in its text format. Open to everybody, so no key or gateway is named.
//!
//! A handful of numbers that are at hand when they are asked for: a registry would have nothing to keep.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, header};
use omniflow_policy::key::Environment;

use crate::problem::Problem;
use crate::state::Api;
use omniflow_domain::anomaly::AnomalyKind;
use omniflow_domain::audit::GapCause;
use omniflow_domain::key::KeyStatus;
use omniflow_service::monitoring::{Metrics, Monitoring, OtlpMetrics, WebhookMetrics};

/// What Prometheus calls its text format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

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
    State(monitoring): State<Arc<Monitoring>>,
    State(app): State<Arc<Api>>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let metrics = monitoring.metrics().await?;
    let mut numbers = Numbers::default();
    numbers.plain(
        "omf_snapshot_version",
        "gauge",
        "The version of the snapshot that gateways are given.",
        metrics.snapshot_version,
    );
    keys_and_gateways(&metrics, &mut numbers);
    audit_log(&metrics, &mut numbers);
    edge(&app, &mut numbers);
    if let Some(webhook) = &metrics.webhook {
        sent_to_webhook(webhook, &mut numbers);
    }
    if let Some(otlp) = &metrics.otlp {
        exported(otlp, &mut numbers);
    }
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], numbers.0))
}

fn keys_and_gateways(metrics: &Metrics, numbers: &mut Numbers) {
    let keys: Vec<_> = Environment::ALL
        .into_iter()
        .flat_map(|environment| KeyStatus::ALL.map(|status| (environment, status)))
        .map(|(environment, status)| {
            let found = metrics.keys.iter().find(|(one, other, _)| (*one, *other) == (environment, status));
            let labels =
                format!("{{environment=\"{}\",status=\"{}\"}}", environment.as_str(), status.as_str());
            (labels, found.map_or(0, |(_, _, keys)| *keys))
        })
        .collect();
    numbers.add("omf_keys", "gauge", "Keys, as of half a minute ago at most.", &keys);
    let gateways = [("live", metrics.live_gateways), ("silent", metrics.silent_gateways)]
        .map(|(state, n)| (format!("{{state=\"{state}\"}}"), n));
    numbers.add("omf_gateways", "gauge", "Runs of gateways that were heard of in the last day.", &gateways);
}

fn audit_log(metrics: &Metrics, numbers: &mut Numbers) {
    numbers.plain("omf_audit_records_total", "counter", "Audit records that were stored.", metrics.records);
    let anomalies = AnomalyKind::ALL.map(|kind| {
        let total = metrics.anomalies.iter().find(|(found, _)| *found == kind).map_or(0, |(_, total)| *total);
        (format!("{{kind=\"{}\"}}", kind.as_str()), total)
    });
    numbers.add("omf_anomalies_total", "counter", "Anomalies in the use of keys.", &anomalies);
    let of = |cause| {
        let found = metrics.gaps.iter().find(|(found, ..)| *found == cause);
        found.map_or((0, 0), |(_, gaps, calls)| (*gaps, *calls))
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
}

/// Connections, and failed authentications.
fn edge(app: &Api, numbers: &mut Numbers) {
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

fn sent_to_webhook(webhook: &WebhookMetrics, numbers: &mut Numbers) {
    numbers.plain(
        "omf_webhook_pending_anomalies",
        "gauge",
        "Anomalies that the webhook has yet to take.",
        webhook.waiting,
    );
    numbers.plain(
        "omf_webhook_failures_total",
        "counter",
        "Attempts that the webhook did not take.",
        webhook.failures,
    );
}

fn exported(otlp: &OtlpMetrics, numbers: &mut Numbers) {
    for (name, kind, help, value) in [
        (
            "omf_otlp_waiting_records",
            "gauge",
            "Records that the OTLP receiver has yet to take.",
            otlp.waiting,
        ),
        ("omf_otlp_lag_seconds", "gauge", "Age of the oldest of them.", otlp.lag_seconds),
        (
            "omf_otlp_failures_total",
            "counter",
            "Requests that the OTLP receiver did not take.",
            otlp.failures,
        ),
        ("omf_otlp_exported_total", "counter", "Records and gaps that it took.", otlp.exported),
        ("omf_otlp_rejected_total", "counter", "Records and gaps that it did not want.", otlp.rejected),
        ("omf_otlp_purged_total", "counter", "Records that were purged before it took them.", otlp.purged),
    ] {
        numbers.plain(name, kind, help, value);
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
