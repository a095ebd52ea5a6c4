//! The text of a scrape: the histograms of the registry, and values that are read at each scrape.

use std::fmt;

use axum::http::{HeaderMap, header};
use omniflow_policy::key::Environment;
use omniflow_policy::time::UnixMillis;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use omniflow_domain::anomaly::AnomalyKind;
use omniflow_domain::audit::GapCause;
use omniflow_domain::key::KeyStatus;
use omniflow_service::gateway_protocol::CutPollStatus;
use omniflow_service::log_space::SpaceStatus;
use omniflow_service::monitoring::{Metrics, OtlpMetrics, WebhookMetrics};

/// A text format that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus text, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Values at the time of a scrape.
#[derive(Debug)]
pub(super) struct Values {
    /// Counts of stored and published objects.
    pub(super) metrics: Metrics,
    /// Open connections.
    pub(super) connections: usize,
    /// Connections closed because the maximum was reached.
    pub(super) connections_ended: u64,
    /// When the certificate in use expires; the start of 1970 without TLS.
    pub(super) certificate_not_after: UnixMillis,
    /// Failed authentications with a 401 response.
    pub(super) failures: u64,
    /// Failed authentications with a 429 response.
    pub(super) throttled_failures: u64,
    /// Gateways whose polls are cut off by a proxy.
    pub(super) cut_polls: CutPollStatus,
}

/// Encodes the registry and these values.
pub(super) fn encode(format: Format, registry: &Registry, values: Values) -> Result<String, fmt::Error> {
    let mut scrape = Registry::default();
    scrape.register_collector(Box::new(values));
    let mut text = String::new();
    match format {
        Format::Prometheus => {
            prometheus_text::encode(&mut text, registry)?;
            prometheus_text::encode(&mut text, &scrape)?;
        }
        Format::OpenMetrics => {
            text::encode_registry(&mut text, registry)?;
            text::encode_registry(&mut text, &scrape)?;
            text::encode_eof(&mut text)?;
        }
    }
    Ok(text)
}

// === impl Format ===

impl Format {
    /// OpenMetrics for a client that names it, as Prometheus does. Weights are ignored: a client that names it can read it.
    pub(super) fn accepted_by(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut ranges = values.flat_map(|value| value.split(','));
        let names_openmetrics = ranges.any(|range| {
            let name = range.split(';').next().unwrap_or_default().trim();
            name.eq_ignore_ascii_case("application/openmetrics-text")
        });
        if names_openmetrics { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The content type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

// === impl Values ===

impl Collector for Values {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut samples = Samples(encoder);
        samples.gauge(
            "omf_snapshot_version",
            "Version of the published snapshot.",
            self.metrics.snapshot_version,
        )?;
        self.keys_and_gateways(&mut samples)?;
        self.audit_log(&mut samples)?;
        self.edge(&mut samples)?;
        if let Some(webhook) = &self.metrics.webhook {
            encode_webhook(webhook, &mut samples)?;
        }
        if let Some(otlp) = &self.metrics.otlp {
            encode_otlp(otlp, &mut samples)?;
        }
        Ok(())
    }
}

impl Values {
    fn keys_and_gateways(&self, samples: &mut Samples) -> fmt::Result {
        let combinations = Environment::ALL
            .into_iter()
            .flat_map(|environment| KeyStatus::ALL.map(|status| (environment, status)));
        let keys = combinations.map(|(environment, status)| {
            let counts = &self.metrics.keys;
            let found = counts.iter().find(|(one, other, _)| (*one, *other) == (environment, status));
            let labels = [("environment", environment.as_str()), ("status", status.as_str())];
            (labels, found.map_or(0, |(_, _, keys)| *keys))
        });
        samples.gauges(
            "omf_keys",
            "Keys by environment and status. The count is at most 30 seconds old.",
            keys,
        )?;
        let gateways = &self.metrics.gateways;
        samples.gauges(
            "omf_gateways",
            "Gateway processes seen in the last day, by state. All states except live and ended need attention.",
            gateways.by_state.map(|(state, count)| ([("state", state)], count)),
        )?;
        samples.gauge(
            "omf_gateways_with_expiring_token",
            "Live gateway processes whose token expires within 7 days.",
            gateways.expiring_tokens,
        )?;
        samples.counter("omf_gateway_polls", "Gateway polls since the start.", self.metrics.gateway_polls)?;
        samples.counters(
            "omf_gateway_requests_refused",
            "Gateway requests refused since the start because of their token, their version or the number of gateway processes, by code.",
            self.metrics.gateway_refusals.map(|(code, count)| ([("code", code)], count)),
        )
    }

    fn audit_log(&self, samples: &mut Samples) -> fmt::Result {
        samples.counter("omf_audit_records", "Audit records stored.", self.metrics.records)?;
        let anomalies = AnomalyKind::ALL.map(|kind| {
            let found = self.metrics.anomalies.iter().find(|(found, _)| *found == kind);
            ([("kind", kind.as_str())], found.map_or(0, |(_, total)| *total))
        });
        samples.counters("omf_anomalies", "Anomalies detected in key usage, by kind.", anomalies)?;
        let of = |cause: GapCause| {
            let found = self.metrics.gaps.iter().find(|(found, ..)| *found == cause);
            ([("cause", cause.as_str())], found.map_or((0, 0), |(_, gaps, calls)| (*gaps, *calls)))
        };
        let all = GapCause::ALL.map(of);
        self.space(samples)?;
        let gaps = all.map(|(labels, (gaps, _))| (labels, gaps));
        samples.counters(
            "omf_audit_gaps",
            "Gaps in the audit log by cause, including gaps withdrawn later.",
            gaps,
        )?;
        let calls = all.map(|(labels, (_, calls))| (labels, calls));
        samples.counters(
            "omf_audit_gap_calls",
            "Calls missing from the audit log because of gaps, by cause (lower bound).",
            calls,
        )
    }

    fn space(&self, samples: &mut Samples) -> fmt::Result {
        let SpaceStatus { log_bytes, limits, free_bytes, rejected_batches, failed_batches } =
            self.metrics.space;
        samples.gauge("omf_audit_log_bytes", "Size of the audit log, including free pages.", log_bytes)?;
        let help = "Size above which content of the audit log is purged; 0 for no limit.";
        samples.gauge("omf_audit_log_max_bytes", help, limits.max_bytes.unwrap_or_default())?;
        if let Some(free_bytes) = free_bytes {
            samples.gauge(
                "omf_volume_free_bytes",
                "Free space on the volume of the data directory.",
                free_bytes,
            )?;
        }
        let help = "Free space below which audit batches are rejected.";
        samples.gauge("omf_volume_reserve_bytes", help, limits.reserve_bytes)?;
        samples.counters(
            "omf_audit_batches_rejected",
            "Audit batches that were not stored, because of the reserve or because of a failure.",
            [([("cause", "reserve")], rejected_batches), ([("cause", "failed")], failed_batches)],
        )
    }

    fn edge(&self, samples: &mut Samples) -> fmt::Result {
        let open = u64::try_from(self.connections).unwrap_or(u64::MAX);
        samples.gauge("omf_connections", "Open connections.", open)?;
        samples.counter(
            "omf_connections_ended",
            "Connections closed because the maximum was reached.",
            self.connections_ended,
        )?;
        let help = "Time when the certificate in use expires, in seconds since 1970; 0 without TLS.";
        samples.gauge("omf_certificate_not_after_seconds", help, self.certificate_not_after.0 / 1_000)?;
        let CutPollStatus { gateways, shortest_ms } = self.cut_polls;
        let help = "Gateways whose long polls are cut off by a proxy.";
        samples.gauge("omf_gateways_with_cut_polls", help, gateways)?;
        let help = "Shortest time after which such a poll is cut off; 0 if there is no such gateway.";
        samples.gauge("omf_gateway_poll_cut_seconds", help, shortest_ms / 1_000)?;
        let failures = [("false", self.failures), ("true", self.throttled_failures)];
        samples.counters(
            "omf_failed_authentications",
            "Requests with an invalid token since the start; throttled is true if the response was 429.",
            failures.map(|(throttled, count)| ([("throttled", throttled)], count)),
        )
    }
}

fn encode_webhook(webhook: &WebhookMetrics, samples: &mut Samples) -> fmt::Result {
    samples.gauge(
        "omf_webhook_pending_anomalies",
        "Anomalies not yet delivered to the webhook.",
        webhook.waiting,
    )?;
    samples.counter("omf_webhook_failures", "Failed webhook deliveries since the start.", webhook.failures)
}

fn encode_otlp(otlp: &OtlpMetrics, samples: &mut Samples) -> fmt::Result {
    samples.gauge("omf_otlp_waiting_records", "Audit records not yet exported.", otlp.waiting)?;
    samples.gauge(
        "omf_otlp_lag_seconds",
        "Age of the oldest audit record not yet exported, in seconds.",
        otlp.lag_seconds,
    )?;
    samples.counter("omf_otlp_failures", "Failed OTLP export requests since the start.", otlp.failures)?;
    samples.counter(
        "omf_otlp_exported",
        "Audit records and gaps accepted by the OTLP receiver.",
        otlp.exported,
    )?;
    samples.counter(
        "omf_otlp_rejected",
        "Audit records and gaps rejected by the OTLP receiver.",
        otlp.rejected,
    )?;
    samples.counter("omf_otlp_purged", "Audit records purged before they were exported.", otlp.purged)
}

/// Encodes values that are not in the registry.
struct Samples<'a>(DescriptorEncoder<'a>);

// === impl Samples ===

impl Samples<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.add(name, help, MetricType::Gauge, [([], ConstGauge::new(value))])
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.add(name, help, MetricType::Counter, [([], ConstCounter::new(value))])
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.add(name, help, MetricType::Gauge, values)
    }

    /// The encoder adds the suffix `_total`.
    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.add(name, help, MetricType::Counter, values)
    }

    fn add<'l, const N: usize, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        values: impl IntoIterator<Item = (Labels<'l, N>, M)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, metric_type)?;
        for (labels, value) in values {
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Names and values of labels.
type Labels<'a, const N: usize> = [(&'a str, &'a str); N];
