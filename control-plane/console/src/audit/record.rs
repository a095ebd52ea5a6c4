//! `GET /audit/{id}`: the record of a call. Auditors view its payload in a separate, recorded step.

use std::borrow::Cow;

use omniflow_domain::principal::Principal;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;
use omniflow_policy::audit::ArgumentHash;

use super::query::Query;
use super::row::{class, meaning};
use crate::browser_session::BrowserSession;
use crate::extract::Authenticated;
use crate::extract::Segments;
use crate::format::{At, Bytes, Count, Micros, Moment};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use crate::routes::{AUDIT, Access};
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_api_types::payload::PayloadJson;
use omniflow_service::audit::RequestLog;
use omniflow_service::audit::payload::ReadPayload;

#[derive(Template)]
#[template(path = "audit/record.html")]
struct RecordPage {
    layout: Layout,
    call: CallView,
    /// Whether the principal may view the payload.
    may_read: bool,
    payload: Option<Payload>,
}

/// A call, formatted for display.
struct CallView {
    id: String,
    title: String,
    time: Moment,
    key: Option<(String, String, u16, &'static str)>,
    method: String,
    path: String,
    endpoint: Option<String>,
    status: u16,
    grpc_status: Option<u32>,
    interruption: Option<&'static str>,
    class: &'static str,
    decision: Cow<'static, str>,
    reason: Cow<'static, str>,
    meaning: &'static str,
    latency: Micros,
    address: Option<String>,
    gateway: String,
    request_id: String,
    request_bytes: Bytes,
    response_bytes: Bytes,
    hash: Option<String>,
    is_partial: bool,
    /// Whether the call had neither a query string nor a body.
    is_without_arguments: bool,
    has_payload: bool,
    aggregated: Option<(Count, Moment)>,
    /// Labels and paths of searches for related calls.
    related: Vec<(&'static str, String)>,
    /// Path that explains the same request with the effective policy.
    explain: Option<String>,
}

/// The payload of a call.
struct Payload {
    query: String,
    body: String,
    is_text: bool,
    media_type: String,
    content_encoding: String,
    state: &'static str,
    kept_until: At,
}

pub(super) async fn show(
    State(log): State<Arc<RequestLog>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
) -> PageResult {
    page(&log, &browser, &principal, &id, None).await
}

/// `POST /audit/{id}/payload`: the payload of a call. Each view is recorded in the admin log.
pub(super) async fn read_payload(
    State(log): State<Arc<RequestLog>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
) -> PageResult {
    let payload = log.read_payload(&principal, &id).await?;
    page(&log, &browser, &principal, &id, Some(payload.into())).await
}

async fn page(
    log: &RequestLog,
    browser: &BrowserSession,
    principal: &Principal,
    id: &str,
    payload: Option<Payload>,
) -> PageResult {
    let call = CallView::from(AuditEntryJson::from(log.show(id).await?));
    let may_read = matches!(AUDIT, Access::Roles(roles) if roles.contains(&principal.role));
    let layout = browser.layout(call.title.clone());
    Ok(Page(RecordPage { layout, call, may_read, payload }).into_response())
}

/// The meaning of an interruption.
fn describe_interruption(interruption: &str) -> &'static str {
    match interruption {
        "upstream_reset" => "The upstream reset the stream.",
        "timeout" => "A timeout at the gateway ended the stream.",
        "key_no_longer_valid" => "The gateway ended the call because its key was revoked or expired.",
        "client_disconnected" => "The client disconnected.",
        _ => "The gateway did not report a reason.",
    }
}

// === impl CallView ===

impl From<AuditEntryJson> for CallView {
    fn from(call: AuditEntryJson) -> Self {
        let all = Query::default();
        let key_id = call.key_id.map(|id| id.to_string());
        let address = call.source_ip.map(|address| address.to_string());
        let mut related = Vec::new();
        let others = [
            ("with this key", "key", key_id.as_deref()),
            ("to this endpoint", "endpoint", call.endpoint.as_deref()),
            ("from this IP address", "ip", address.as_deref()),
            ("with this reason", "reason", Some(&*call.reason)),
        ];
        for (label, name, value) in others {
            if let Some(value) = value {
                related.push((label, all.link(&[(name, value)])));
            }
        }
        let aggregated =
            call.aggregated_calls.zip(call.first_time).map(|(calls, first)| (Count(calls), Moment(first.0)));
        let fields = [
            ("key", key_id.as_deref()),
            ("method", Some(call.method.as_str())),
            ("path", Some(call.path.as_str())),
            ("source_ip", address.as_deref()),
        ];
        let fields: Vec<_> = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let explain =
            serde_urlencoded::to_string(fields).ok().map(|query| format!("/policy/explain?{query}"));
        Self {
            title: match &aggregated {
                Some((calls, _)) => format!("{calls} calls"),
                None => format!("{} {}", call.method, call.path),
            },
            time: Moment(call.time.0),
            explain: explain.filter(|_| key_id.is_some()),
            key: key_id.map(|id| {
                let environment = call.environment.map_or("", |environment| environment.as_str());
                (id, call.key_name.unwrap_or_default(), call.version_id.unwrap_or_default(), environment)
            }),
            method: call.method,
            path: call.path,
            endpoint: call.endpoint,
            status: call.status,
            grpc_status: call.grpc_status,
            interruption: call.interruption.as_deref().map(describe_interruption),
            class: class(call.status),
            decision: call.decision,
            meaning: meaning(&call.reason),
            reason: call.reason,
            latency: Micros(call.latency_us),
            address,
            gateway: call.gateway,
            request_id: call.request_id,
            request_bytes: Bytes(call.request_bytes),
            response_bytes: Bytes(call.response_bytes),
            is_without_arguments: !call.argument_hash_partial
                && call.argument_hash.as_ref() == Some(&ArgumentHash::new(b"").finish().to_hex()),
            hash: call.argument_hash,
            is_partial: call.argument_hash_partial,
            has_payload: call.has_payload,
            aggregated,
            related,
            id: call.id,
        }
    }
}

// === impl Payload ===

impl From<ReadPayload> for Payload {
    fn from(read: ReadPayload) -> Self {
        let payload = PayloadJson::new(read.record, read.payload, read.kept_until);
        Self {
            query: payload.query,
            is_text: payload.body_encoding == "text",
            body: payload.body,
            media_type: payload.media_type,
            content_encoding: payload.content_encoding,
            state: match payload.state.as_ref() {
                "whole" => "The payload is complete.",
                "cut" => {
                    "The payload is truncated: it exceeds the limit of the policy, or the gateway did not see the whole body."
                }
                "no_room" => "The payload is missing because the gateway's buffer was full.",
                _ => {
                    "The body is missing because the fields that the policy redacts cannot be located in it."
                }
            },
            kept_until: At(payload.kept_until.0),
        }
    }
}
