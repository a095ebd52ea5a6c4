//! `GET /metrics`: metrics of the control plane, for Prometheus. The endpoint is public, so no label names a key or gateway.

pub(crate) mod cache;
mod exposition;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};

use self::cache::ScrapeCache;
use self::exposition::{Format, Values};
use crate::problem::Problem;
use crate::state::Api;
use omniflow_domain::error::Error;
use omniflow_service::monitoring::Monitoring;

/// Show metrics for Prometheus.
///
/// The format is OpenMetrics if the Accept header requests it, and otherwise the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    responses((
        status = 200,
        description = "The metrics of the control plane.",
        content((String = "text/plain"), (String = "application/openmetrics-text")),
    )),
)]
pub(super) async fn metrics(
    State(monitoring): State<Arc<Monitoring>>,
    State(app): State<Arc<Api>>,
    State(cache): State<Arc<ScrapeCache>>,
    headers: HeaderMap,
) -> Result<([(HeaderName, &'static str); 1], Bytes), Problem> {
    let format = Format::accepted_by(&headers);
    let text = cache.get_or_encode(format, async || encode(&monitoring, &app, format).await).await?;
    Ok(([(header::CONTENT_TYPE, format.media_type())], text))
}

async fn encode(monitoring: &Monitoring, app: &Api, format: Format) -> Result<Bytes, Error> {
    let failures = app.authentication.failures();
    let values = Values {
        metrics: monitoring.metrics().await?,
        connections: app.connection_table.open(),
        connections_ended: app.connection_table.evicted(),
        certificate_not_after: app.certificate_expiry.get(),
        failures: failures.answered,
        throttled_failures: failures.throttled,
        cut_polls: app.gateway_protocol.cut_polls(),
    };
    let text = exposition::encode(format, &app.metrics, values).map_err(|_| Error::internal())?;
    Ok(text.into())
}
