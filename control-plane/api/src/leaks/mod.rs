//! `POST /v1/leaks`: reports leaked secrets. Their keys are revoked immediately, and the response shows how they were used.
//!
//! The response identifies keys and never repeats what was sent.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::UtoipaMethodRouterExt;
use utoipa_axum::routes;

use super::access::{Authenticated, WRITE};
use super::endpoint::Endpoints;
use super::extract::{FromBody, StrictQuery, check_media_type, parse};
use super::idempotency::{CreatedResponse, IdempotentBody};
use super::params::IdempotencyKey;
use super::problem::Problem;
use super::query::WaitQuery;
use omniflow_api_types::leak::{LeakReportJson, ReportLeak};
use omniflow_api_types::request_error::RequestError;
use omniflow_domain::error::Error;
use omniflow_service::leaks::handle::{self, Measures};
use omniflow_service::leaks::{Leaks, SearchTerms};

/// Maximum length of a report in bytes, the same as of a policy.
const BODY_LIMIT: usize = 1024 * 1024;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.add(WRITE, routes!(report).layer(DefaultBodyLimit::max(BODY_LIMIT)))
}

/// The body of a report.
pub(super) struct Report(ReportLeak);

/// Report and revoke leaked keys.
///
/// The body contains a secret, its digest, or a text that may contain secrets. Every key found is revoked immediately,
/// unless `revoke` is false. The response shows how each key was used. The submitted secret, digest or text is neither
/// stored nor returned.
#[utoipa::path(
    post,
    path = "/v1/leaks",
    operation_id = "report_leak",
    tag = "keys",
    params(WaitQuery, IdempotencyKey),
    request_body = ReportLeak,
    responses(
        (status = 200, body = LeakReportJson, description = "The leaked keys and their usage."),
        (status = 409, description = "`name_taken`, `already_created`"),
    ),
)]
pub(super) async fn report(
    State(leaks): State<Arc<Leaks>>,
    Authenticated(principal): Authenticated,
    StrictQuery(query): StrictQuery<WaitQuery>,
    IdempotentBody { body: Report(body), attempt }: IdempotentBody<Report>,
) -> Result<Response, Problem> {
    let wait = query.parse()?;
    let ReportLeak { secret, digest, text, revoke, version_only, replacement } = body;
    let measures = Measures { revoke, version_only, replacement };
    let terms = SearchTerms::read(secret, digest, text)?;
    let request = handle::ReportLeak { terms, measures, wait, attempt };
    let handled = leaks.handle(&principal, request).await?;
    let response = CreatedResponse::on_the_side(&LeakReportJson::from(handled.value))?;
    Ok(response.replayed(handled.replayed).into_response())
}

// === impl Report ===

impl FromBody for Report {
    /// Unlike those of other bodies, the error does not quote the input, which may be the secret itself.
    fn from_body(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, RequestError> {
        check_media_type(headers, "application/json")?;
        let detail = "The body is not a report. Send an object with secret, digest or text, and optionally the flags revoke, version_only and replacement, each true or false.";
        Ok(Self(parse(bytes).map_err(|_| Error::invalid_json(None, detail))?))
    }
}
