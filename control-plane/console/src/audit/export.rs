//! `GET /audit/export`: the calls that the search selects, as a file.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;

use super::query::Query;
use crate::extract::Authenticated;
use crate::extract::StrictQuery;
use crate::page::PageResult;
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_api_types::audit_lines::ExportFormat;
use omniflow_api_types::parameters::ExportParameters;
use omniflow_service::audit::RequestLog;
use omniflow_service::audit::export::{Export, ExportBatch};

/// Number of batches that are queued for a slow browser.
const QUEUED_BATCHES: usize = 2;

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
    let (sender, body) = Channel::new(QUEUED_BATCHES);
    tokio::spawn(send(export, format, sender));
    let headers =
        [(header::CONTENT_TYPE, format.media_type()), (header::CONTENT_DISPOSITION, format.disposition())];
    Ok((headers, Body::new(body)).into_response())
}

/// Sends all batches, or aborts the connection.
async fn send(mut export: Export, format: ExportFormat, mut sender: Sender<Bytes, io::Error>) {
    let stopped = export.stopped();
    let sent = tokio::select! {
        sent = send_batches(&mut export, format, &mut sender) => sent,
        () = stopped => Err(io::Error::other("the control plane is shutting down")),
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "audit log export aborted");
        sender.abort(error);
    }
}

async fn send_batches(
    export: &mut Export,
    format: ExportFormat,
    sender: &mut Sender<Bytes, io::Error>,
) -> io::Result<()> {
    let mut text = format.head().to_owned();
    loop {
        let ExportBatch { records, is_last } = export.next_batch().await.map_err(io::Error::other)?;
        for record in records {
            text.push_str(&format.line(&AuditEntryJson::from(record)).map_err(io::Error::other)?);
        }
        // A browser that closes the connection is not a failure.
        if sender.send_data(Bytes::from(std::mem::take(&mut text))).await.is_err() || is_last {
            return Ok(());
        }
    }
}
