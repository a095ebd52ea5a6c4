//! The audit log: every call, newest first.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ipnet::IpNet;
use omniflow_policy::outcome::Outcome;
use omniflow_policy::time::UnixMillis;
use serde::Deserialize;
use utoipa::IntoParams;

use super::access::{Endpoints, READ};
use super::extract::{Segments, StrictQuery};
use super::params::RecordPath;
use super::problem::Problem;
use super::query::{self, PageQuery};
use crate::app::App;
use crate::json::audit::{AuditEntryJson, AuditGapJson};
use crate::json::page::Page;
use crate::json::schema;
use crate::storage::{AuditFilter, AuditPosition, KeyReference};

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.get("/v1/audit", READ, list).get("/v1/audit/gaps", READ, gaps).get("/v1/audit/{id}", READ, show)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Calls of this key, by identifier or by its name at the time of the call.
    key: Option<String>,
    /// Calls with a key of this environment.
    #[param(value_type = Option<schema::Environment>)]
    environment: Option<String>,
    /// Calls to exactly this route template.
    endpoint: Option<String>,
    /// Calls with exactly this method.
    method: Option<String>,
    /// Calls with this status, or with one of this class.
    #[param(value_type = Option<schema::StatusFilter>)]
    status: Option<String>,
    /// Calls that were decided so.
    #[param(value_type = Option<schema::Decision>)]
    decision: Option<String>,
    /// Calls that were decided so for this reason.
    #[param(value_type = Option<schema::Reason>)]
    reason: Option<String>,
    /// Calls from this address, or from this network.
    #[param(value_type = Option<schema::Network>)]
    ip: Option<String>,
    /// Calls that began at this time or later.
    #[param(value_type = Option<schema::Instant>)]
    from: Option<String>,
    /// Calls that began before this time.
    #[param(value_type = Option<schema::Instant>)]
    to: Option<String>,
    #[serde(flatten)]
    #[param(ignore)]
    page: PageQuery,
}

/// Lists audited calls, newest first.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "list_audit_records",
    tag = "audit",
    params(ListQuery, PageQuery),
    responses((status = 200, body = Page<AuditEntryJson>, description = "A page of calls.")),
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<AuditEntryJson>>, Problem> {
    let (limit, before) = query.page.read(read_position)?;
    let filter = AuditFilter {
        key: query::present(query.key).map(|key| KeyReference::from(key.as_str())),
        environment: query::parsed("environment", query.environment)?,
        endpoint: query::present(query.endpoint),
        method: query::present(query.method),
        status: status(query.status)?,
        decision: query::parsed("decision", query.decision)?,
        reason: reason(query.reason)?,
        network: network(query.ip)?,
        from: query::time("from", query.from)?,
        to: query::time("to", query.to)?,
    };
    let entries = app.storage.audit.audit_entries(&filter, before, limit + 1).await?;
    let page = Page::of(entries, limit, |entry| format!("{}-{}", entry.time.0, entry.id));
    Ok(Json(page.map(AuditEntryJson::from)))
}

/// Shows one audited call.
#[utoipa::path(
    get,
    path = "/v1/audit/{id}",
    operation_id = "show_audit_record",
    tag = "audit",
    params(RecordPath),
    responses((status = 200, body = AuditEntryJson, description = "The call.")),
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segments(id): Segments<String>,
) -> Result<Json<AuditEntryJson>, Problem> {
    let no_such_record = || Problem::not_found("The audit log has no such record.");
    let id = id.parse().map_err(|_| no_such_record())?;
    let entry = app.storage.audit.audit_entry(id).await?.ok_or_else(no_such_record)?;
    Ok(Json(entry.into()))
}

/// Lists what is missing in the log, found last first.
#[utoipa::path(
    get,
    path = "/v1/audit/gaps",
    operation_id = "list_audit_gaps",
    tag = "audit",
    params(PageQuery),
    responses((status = 200, body = Page<AuditGapJson>, description = "A page of gaps.")),
)]
pub(super) async fn gaps(
    State(app): State<Arc<App>>,
    StrictQuery(query): StrictQuery<PageQuery>,
) -> Result<Json<Page<AuditGapJson>>, Problem> {
    let (limit, before) = query.read(|text| text.parse().ok())?;
    let gaps = app.storage.audit.audit_gaps(before, limit + 1).await?;
    Ok(Json(Page::of(gaps, limit, |gap| gap.id.to_string()).map(AuditGapJson::from)))
}

fn read_position(text: &str) -> Option<AuditPosition> {
    let (time, id) = text.split_once('-')?;
    Some(AuditPosition { time: UnixMillis(time.parse().ok()?), id: id.parse().ok()? })
}

/// `404`, or `4xx` for all of a class.
fn status(value: Option<String>) -> Result<Option<RangeInclusive<u16>>, Problem> {
    let Some(text) = query::present(value) else {
        return Ok(None);
    };
    let class = text
        .strip_suffix("xx")
        .and_then(|class| class.parse().ok())
        .filter(|class: &u16| (1..=5).contains(class));
    let range = match class {
        Some(class) => Some(class * 100..=class * 100 + 99),
        None => text.parse().ok().filter(|status| *status <= 999).map(|status: u16| status..=status),
    };
    let wrong = || Problem::invalid_query("status", "status is a status such as 404 or a class such as 4xx");
    range.map(Some).ok_or_else(wrong)
}

fn reason(value: Option<String>) -> Result<Option<Outcome>, Problem> {
    let unknown = || {
        let known: Vec<&str> = Outcome::all().map(Outcome::reason).collect();
        Problem::invalid_query("reason", format!("reason is one of {}", known.join(", ")))
    };
    query::present(value).map(|text| Outcome::from_reason(&text).ok_or_else(unknown)).transpose()
}

fn network(value: Option<String>) -> Result<Option<IpNet>, Problem> {
    let wrong = || Problem::invalid_query("ip", "ip is an address or a network such as 203.0.113.0/24");
    query::present(value)
        .map(|text| {
            let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
            network.map_err(|_| wrong())
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::outcome::Denial;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::http::testing::{Plane, START, record};

    #[tokio::test]
    async fn a_record_has_the_shape_of_the_contract() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        let id = Uuid::from_u128(9);
        plane.deliver(&token, vec![record(0, START + 1, Some((id, "ci")))]).await;
        let list = plane.get("/v1/audit").await.expect(StatusCode::OK);
        let expected = json!({
            "id": "1", "time": "2027-01-15T08:00:00.001Z", "key_id": id, "key_name": "ci", "version_id": 1,
            "environment": "live", "method": "GET", "endpoint": "/api/v1/contacts", "path": "/api/v1/contacts",
            "status": 200, "decision": "allowed", "reason": "allowed", "latency_us": 900,
            "source_ip": "203.0.113.7", "request_id": "request-0", "request_bytes": 120, "response_bytes": 340,
            "gateway": "edge", "argument_hash": "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b",
            "argument_hash_partial": false, "has_payload": false, "folded_calls": null, "first_time": null,
        });
        assert_eq!(list, json!({"items": [expected], "next_cursor": null}));
        assert_eq!(plane.get("/v1/audit/1").await.expect(StatusCode::OK), expected);
        for missing in ["/v1/audit/2", "/v1/audit/x"] {
            assert_eq!(plane.get(missing).await.problem().1, "not_found");
        }
    }

    #[tokio::test]
    async fn filters_select() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        let id = Uuid::from_u128(9);
        let mut other = record(1, START + 1_000, None);
        other.method = "POST".to_owned();
        other.endpoint = None;
        other.path = "/nothing".to_owned();
        other.status = 403;
        other.outcome = Outcome::Denied(Denial::RouteNotMapped);
        other.source_ip = Some("2001:db8::5".parse().unwrap());
        plane.deliver(&token, vec![record(0, START, Some((id, "ci"))), other]).await;
        let by_id = format!("key={id}");
        let (first, second): (&[u64], &[u64]) = (&[0], &[1]);
        for (query, expected) in [
            ("", &[1, 0][..]),
            ("key=ci", first),
            (&by_id, first),
            ("key=nobody", &[]),
            ("environment=live", first),
            ("environment=test", &[]),
            ("endpoint=/api/v1/contacts", first),
            ("method=POST", second),
            ("status=200", first),
            ("status=4xx", second),
            ("status=404", &[]),
            ("decision=allowed", first),
            ("decision=denied&reason=route_not_mapped", second),
            ("reason=key_revoked", &[]),
            ("ip=203.0.113.7", first),
            ("ip=203.0.113.0/24", first),
            ("ip=0.0.0.0/0", first),
            ("ip=::/0", &[1, 0]),
            ("ip=2001:db8::/32", second),
            ("ip=2001:db9::/32", &[]),
            ("from=2027-01-15T08:00:01Z", second),
            ("to=2027-01-15T08:00:01Z", first),
            ("from=2027-01-15T09:00:00%2B01:00&to=2027-01-15T08:00:02Z", &[1, 0]),
        ] {
            let list = plane.get(&format!("/v1/audit?{query}")).await.expect(StatusCode::OK);
            let found: Vec<Value> =
                list["items"].as_array().unwrap().iter().map(|entry| entry["request_id"].clone()).collect();
            let expected: Vec<Value> = expected.iter().map(|n| json!(format!("request-{n}"))).collect();
            assert_eq!(found, expected, "{query}");
        }
        for (query, field) in [
            ("status=40x", "status"),
            ("status=6xx", "status"),
            ("decision=maybe", "decision"),
            ("reason=because", "reason"),
            ("ip=10.0.0.0/33", "ip"),
            ("from=now", "from"),
            ("cursor=1", "cursor"),
            ("colour=red", ""),
            ("limit=1&limit=2", ""),
        ] {
            let (status, _, named) = plane.get(&format!("/v1/audit?{query}")).await.problem();
            assert_eq!((status, named.as_str()), (400, field), "{query}");
        }
    }

    #[tokio::test]
    async fn pages_neither_repeat_nor_miss_while_records_arrive() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        // Three records in each millisecond, so that a page ends in the middle of one.
        plane.deliver(&token, (0..20).map(|n| record(n, START + n / 3, None)).collect()).await;
        let mut seen = Vec::new();
        let mut cursor = String::new();
        let mut next_sequence = 20;
        loop {
            let page = plane.get(&format!("/v1/audit?limit=4&cursor={cursor}")).await.expect(StatusCode::OK);
            for entry in page["items"].as_array().unwrap() {
                seen.push(entry["request_id"].as_str().unwrap().to_owned());
            }
            plane.deliver(&token, vec![record(next_sequence, START + 1_000, None)]).await;
            next_sequence += 1;
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = next.to_owned();
        }
        let expected: Vec<String> = (0..20).rev().map(|n| format!("request-{n}")).collect();
        assert_eq!(seen, expected);
    }
}
