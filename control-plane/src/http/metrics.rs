//! `GET /metrics`: numbers for Prometheus, in its text format. Open to everybody, so no key or gateway is named.
//!
//! A handful of numbers that are at hand when they are asked for: a registry would have nothing to keep.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, header};

use crate::app::App;
use crate::http::problem::Problem;
use crate::model::finding::FindingKind;

/// What Prometheus calls its text format.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

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
    let version = app.publication.version()?;
    let records = app.storage.audit.record_total().await?;
    let found = app.storage.audit.finding_totals().await?;
    let mut text = String::new();
    let mut number = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let findings = FindingKind::ALL.map(|kind| {
        let total = found.iter().find(|(found, _)| *found == kind).map_or(0, |(_, total)| *total);
        (format!("{{kind=\"{}\"}}", kind.as_str()), total)
    });
    let plain = |value| [(String::new(), value)];
    number("omf_audit_findings_total", "counter", "Patterns that were found in the use of keys.", &findings);
    number("omf_audit_records_total", "counter", "Audit records that were stored.", &plain(records));
    number(
        "omf_connections",
        "gauge",
        "Connections that are open.",
        &plain(u64::try_from(app.admission.open()).unwrap_or(u64::MAX)),
    );
    number(
        "omf_connections_ended_total",
        "counter",
        "Connections without a valid token that were ended because there were too many.",
        &plain(app.admission.evicted()),
    );
    let failed = app.throttle.totals();
    number(
        "omf_failed_authentications_total",
        "counter",
        "Tokens that were refused as not valid, and whether too many came from the same address.",
        &[
            ("{throttled=\"false\"}".to_owned(), failed.answered),
            ("{throttled=\"true\"}".to_owned(), failed.throttled),
        ],
    );
    number(
        "omf_snapshot_version",
        "gauge",
        "The version of the snapshot that gateways are given.",
        &plain(version),
    );
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text))
}
