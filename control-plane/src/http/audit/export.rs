//! `GET /v1/audit/export`: all calls that a filter selects, as one file.
//!
//! It is read and sent a page at a time: what waits to be sent is three pages at most, and no reader is held while the
//! client takes its time.

use std::io;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;
use utoipa::IntoParams;

use super::FilterQuery;
use crate::http::access::Authenticated;
use crate::http::extract::StrictQuery;
use crate::http::permit::Permit;
use crate::http::problem::Problem;
use crate::http::query;
use crate::service::app::App;
use crate::storage::{AuditFilter, AuditPosition};
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_api_types::audit_lines::{CSV_HEADER, csv_line, json_line};
use omniflow_api_types::schema;

/// Records that are read and sent at once.
const RECORDS_PER_PIECE: usize = 500;
/// Pieces that wait for a client that reads slowly, beside the one at hand.
const PIECES_WAITING: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ExportQuery {
    #[serde(flatten)]
    filter: FilterQuery,
    #[serde(flatten)]
    form: FormQuery,
}

/// In which form.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct FormQuery {
    /// `ndjson`: a JSON document a line; `csv`: RFC 4180 with a header. `ndjson` if not stated.
    #[param(value_type = Option<schema::ExportFormat>)]
    format: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Ndjson,
    Csv,
}

#[derive(Debug, thiserror::Error)]
#[error("format is ndjson or csv")]
struct InvalidFormat;

/// Sends all audited calls that the filter selects, newest first.
///
/// A connection that is closed before the end of the body means that the export is not whole.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    operation_id = "export_audit_records",
    tag = "audit",
    params(FilterQuery, FormQuery),
    responses((
        status = 200,
        description = "The calls.",
        content((String = "application/x-ndjson"), (String = "text/csv")),
    )),
)]
pub(in crate::http) async fn export(
    State(app): State<Arc<App>>,
    Authenticated(principal): Authenticated,
    StrictQuery(ExportQuery { filter, form }): StrictQuery<ExportQuery>,
) -> Result<Response, Problem> {
    let filter = filter.read()?;
    let format = query::parsed("format", form.format)?.unwrap_or(Format::Ndjson);
    let (sender, body) = Channel::new(PIECES_WAITING);
    let permit = Permit::new(&app, &principal);
    tokio::spawn(send(app, filter, format, permit, sender));
    let headers =
        [(header::CONTENT_TYPE, format.media_type()), (header::CONTENT_DISPOSITION, format.disposition())];
    Ok((headers, Body::new(body)).into_response())
}

/// Sends all, or cuts the connection.
async fn send(
    app: Arc<App>,
    filter: AuditFilter,
    format: Format,
    permit: Permit,
    mut sender: Sender<Bytes, io::Error>,
) {
    let sent = tokio::select! {
        sent = send_pieces(&app, &filter, format, &permit, &mut sender) => sent,
        () = app.signals.stopped() => Err(io::Error::other("the control plane is stopping")),
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "an export of the audit log was cut");
        sender.abort(error);
    }
}

async fn send_pieces(
    app: &App,
    filter: &AuditFilter,
    format: Format,
    permit: &Permit,
    sender: &mut Sender<Bytes, io::Error>,
) -> io::Result<()> {
    let mut before: Option<AuditPosition> = None;
    let mut text = match format {
        Format::Ndjson => String::new(),
        Format::Csv => CSV_HEADER.to_owned(),
    };
    loop {
        if !permit.holds().await.map_err(io::Error::other)? {
            return Err(io::Error::other("its token is not valid any more"));
        }
        let entries = app.storage.audit.audit_entries(filter, before, RECORDS_PER_PIECE).await;
        let entries = entries.map_err(io::Error::other)?;
        let is_last = entries.len() < RECORDS_PER_PIECE;
        before = entries.last().map(|entry| AuditPosition { time: entry.time, id: entry.id });
        for entry in entries {
            text.push_str(&format.line(&AuditEntryJson::from(entry))?);
        }
        // Whoever asked may have seen enough: that is no failure.
        if sender.send_data(Bytes::from(std::mem::take(&mut text))).await.is_err() || is_last {
            return Ok(());
        }
    }
}

// === impl Format ===

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    fn disposition(self) -> &'static str {
        match self {
            Self::Ndjson => "attachment; filename=\"audit.ndjson\"",
            Self::Csv => "attachment; filename=\"audit.csv\"",
        }
    }

    fn line(self, entry: &AuditEntryJson) -> io::Result<String> {
        match self {
            Self::Ndjson => json_line(entry).map_err(io::Error::other),
            Self::Csv => csv_line(entry),
        }
    }
}

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ndjson" => Ok(Self::Ndjson),
            "csv" => Ok(Self::Csv),
            _ => Err(InvalidFormat),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;
    use uuid::Uuid;

    use super::*;
    use crate::http::testing::{Plane, START, record, request};

    /// A log with more than two pieces.
    async fn plane() -> Plane {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        let key = Uuid::from_u128(7);
        plane
            .deliver(&token, (0..1_200).map(|n| record(n, START + n / 7, Some((key, "ci")))).collect())
            .await;
        plane
    }

    #[tokio::test]
    async fn an_export_has_every_record_of_the_list_once_and_in_its_order() {
        let plane = plane().await;
        let answer = plane.get("/v1/audit/export").await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/x-ndjson");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: Vec<&str> = lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
        let expected: Vec<String> = (0..1_200).rev().map(|n| format!("request-{n}")).collect();
        assert_eq!(ids, expected);
        let first = plane.get("/v1/audit?limit=1").await.expect(StatusCode::OK);
        assert_eq!(lines[0], first["items"][0]);

        let few = plane.get("/v1/audit/export?key=ci&to=2027-01-15T08:00:00.001Z").await;
        assert_eq!(few.body.iter().filter(|byte| **byte == b'\n').count(), 7);
        assert_eq!(plane.get("/v1/audit/export?key=nobody").await.body, Bytes::new());
        let csv = plane.get("/v1/audit/export?format=csv").await;
        let text = String::from_utf8(csv.body.to_vec()).unwrap();
        assert_eq!(text.matches("\r\n").count(), 1_201);
        assert!(text.starts_with("id,time,key_id,key_name,"), "{text}");
        assert_eq!(plane.get("/v1/audit/export?key=nobody&format=csv").await.body, CSV_HEADER);
        for (query, field) in [("format=xml", "format"), ("limit=1", ""), ("status=x", "status")] {
            let (status, _, named) = plane.get(&format!("/v1/audit/export?{query}")).await.problem();
            assert_eq!((status, named.as_str()), (400, field));
        }
    }

    #[tokio::test]
    async fn an_export_is_cut_when_its_token_is_revoked() {
        let plane = Plane::new().await;
        let gateway = plane.token("gateway").await;
        let auditor = plane.token("auditor").await;
        for first in (0..5_000).step_by(1_000) {
            plane
                .deliver(&gateway, (first..first + 1_000).map(|n| record(n, START + n, None)).collect())
                .await;
        }
        let request = request(Method::GET, "/v1/audit/export", &auditor, None);
        let mut body = plane.router.clone().oneshot(request).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        let path = plane.path_of_token("the auditor").await;
        assert_eq!(plane.delete(&path).await.status, StatusCode::NO_CONTENT);
        let rest = body.collect().await;
        assert!(rest.is_err(), "what is not whole does not end as if it were");
    }

    #[tokio::test]
    async fn nothing_is_read_ahead_of_a_client_that_does_not_take_it() {
        let plane = plane().await;
        let request = request(Method::GET, "/v1/audit/export", &plane.owner, None);
        let mut body = plane.router.clone().oneshot(request).await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let line: Value = serde_json::from_slice(first.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
        assert_eq!(line["request_id"], json!("request-1199"));
        assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), RECORDS_PER_PIECE);
        drop(body);
    }
}
