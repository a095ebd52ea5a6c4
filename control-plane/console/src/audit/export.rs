//! `GET /audit/export`: the calls that the search selects, as a file.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::query::Query;
use crate::extract::Authenticated;
use crate::extract::StrictQuery;
use crate::page::PageResult;
use omniflow_api_types::audit_lines::file;
use omniflow_api_types::parameters::ExportParameters;
use omniflow_service::audit::RequestLog;

/// The search, and the format of the file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Download {
    format: String,
    key: String,
    environment: String,
    endpoint: String,
    method: String,
    status: String,
    decision: String,
    reason: String,
    ip: String,
    from: String,
    to: String,
}

pub(super) async fn download(
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
    StrictQuery(download): StrictQuery<Download>,
) -> PageResult {
    let Download { format, key, environment, endpoint, method, status, decision, reason, ip, from, to } =
        download;
    let query = Query {
        key,
        environment,
        endpoint,
        method,
        status,
        decision,
        reason,
        ip,
        from,
        to,
        ..Query::default()
    };
    let format = ExportParameters { format: Some(format) }.parse()?;
    let export = log.export(&principal, query.to_filter()?).await?;
    let headers =
        [(header::CONTENT_TYPE, format.media_type()), (header::CONTENT_DISPOSITION, format.disposition())];
    Ok((headers, Body::from_stream(file(format, export.batches()))).into_response())
}
