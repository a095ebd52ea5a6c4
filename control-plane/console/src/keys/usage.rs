//! The usage of a key: calls of 30 days by day, endpoint and IP address, recent calls, anomalies, and the history of the key.

use std::borrow::Cow;

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::changes::{Changed, changes};
use crate::chart::{Column, Columns, Ranking, RankingLine, Series};
use crate::format::{At, Count, Micros};
use crate::layout::Layout;
use crate::state::Console;
use crate::wording;
use omniflow_api_types::admin_event::AdminEventJson;
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_api_types::leak::{AddressUseJson, EndpointUseJson, KeyUseJson};
use omniflow_api_types::stats::{AuditStatsJson, StatsCountsJson};
use omniflow_domain::admin_event::AdminLogFilter;
use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::key::KeyReference;
use omniflow_domain::page::PageRequest;
use omniflow_domain::stats::StatsQuery;
use omniflow_domain::time::{DAY_MS, format_time, parse_time};

/// Days of the chart, including today.
const DAYS: u64 = 30;
/// Number of lines of a ranking.
const RANKED: usize = 8;
/// Maximum number of recent calls.
const RECENT: usize = 10;
/// Maximum number of calls that the rankings cover, to keep the pages of busy keys fast.
const MAX_EVALUATED_CALLS: u64 = 20_000;
/// Maximum number of changes.
const EVENTS: usize = 20;

/// Usage of a key.
pub(super) struct Usage {
    /// Calls of 30 days, or why they could not be counted.
    pub(super) counted: Result<Counted, String>,
    pub(super) endpoints: Ranking,
    pub(super) addresses: Ranking,
    /// Whether the rankings cover only the newest calls.
    pub(super) is_of_newest: bool,
    pub(super) recent: Vec<Call>,
    pub(super) anomalies: Vec<Found>,
    pub(super) history: Vec<Change>,
    /// Path of the list of all calls, if the principal may open it.
    pub(super) all_calls: Option<String>,
    /// Path of the list of all changes, if the principal may open it.
    pub(super) all_changes: Option<String>,
}

/// Calls of 30 days.
pub(super) struct Counted {
    pub(super) calls: Count,
    pub(super) chart: Columns,
    /// Percentiles of the latency: label and value.
    pub(super) latencies: [(&'static str, String); 3],
}

/// A call.
pub(super) struct Call {
    pub(super) time: At,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) status: u16,
    pub(super) reason: Cow<'static, str>,
    pub(super) is_allowed: bool,
    pub(super) latency: String,
    pub(super) address: String,
    /// Path of its record, if the principal may open it.
    pub(super) shown_at: Option<String>,
}

/// An anomaly.
pub(super) struct Found {
    pub(super) kind: Cow<'static, str>,
    pub(super) summary: String,
    pub(super) last: At,
}

/// A change of the key.
pub(super) struct Change {
    pub(super) time: At,
    pub(super) by: String,
    pub(super) action: Cow<'static, str>,
    /// Changed fields.
    pub(super) changes: Vec<Changed>,
}

// === impl Usage ===

impl Usage {
    pub(super) async fn of(app: &Console, id: Uuid, layout: &Layout, now: UnixMillis) -> Result<Self, Error> {
        let key = id.to_string();
        let first_day = UnixMillis((now.0 / DAY_MS).saturating_sub(DAYS - 1) * DAY_MS);
        let calls = AuditFilter { key: Some(KeyReference::Id(id)), ..AuditFilter::default() };
        let hours = async {
            let filter = AuditFilter { from: Some(first_day), ..calls.clone() };
            let query = StatsQuery { filter, ..StatsQuery::default() };
            match app.request_log.stats(query).await {
                Ok(stats) => Ok(Ok(AuditStatsJson::from(stats))),
                // The rest of the page, which changes the key, does not depend on it.
                Err(error) if error.code() == ErrorCode::Busy => Ok(Err(wording::text(&error))),
                Err(error) => Err(error),
            }
        };
        let newest = async { app.leaks.key_usage(id, MAX_EVALUATED_CALLS, now).await.map(KeyUseJson::from) };
        let recent = app.request_log.list(calls.clone(), PageRequest::first(RECENT));
        let changes = AdminLogFilter { subject: Some(key.clone()), ..AdminLogFilter::default() };
        let history = app.admin_log.list(changes, PageRequest::first(EVENTS));
        let (hours, newest, recent, history) = tokio::try_join!(hours, newest, recent, history)?;
        let audit = |more: &str| layout.can_open("/audit").then(|| format!("/audit?key={key}{more}"));
        let calls_of = |day: UnixMillis| {
            let (from, to) = (format_time(day), format_time(UnixMillis(day.0 + DAY_MS)));
            audit(&format!("&from={from}&to={to}"))
        };
        let counted = hours.map(|hours| Counted {
            calls: Count(hours.total.calls),
            latencies: latencies(&hours.total),
            chart: chart(&hours, first_day, calls_of),
        });
        Ok(Self {
            counted,
            endpoints: endpoints(&newest, &audit),
            addresses: addresses(&newest, &audit),
            is_of_newest: !newest.complete,
            recent: recent.items.into_iter().map(|call| Call::new(call.into(), layout)).collect(),
            anomalies: newest
                .anomalies
                .into_iter()
                .map(|found| Found { kind: found.kind, summary: found.summary, last: At(found.last_seen.0) })
                .collect(),
            history: history
                .items
                .into_iter()
                .map(|event| Change::from(AdminEventJson::from(event)))
                .collect(),
            all_calls: audit(""),
            all_changes: layout.can_open("/admin-log").then(|| format!("/admin-log?subject={key}")),
        })
    }
}

fn encoded(name: &str, value: &str) -> String {
    serde_urlencoded::to_string([(name, value)]).map(|pair| format!("&{pair}")).unwrap_or_default()
}

fn latencies(counts: &StatsCountsJson) -> [(&'static str, String); 3] {
    let text =
        |micros: Option<u64>| micros.map_or_else(|| "–".to_owned(), |micros| Micros(micros).to_string());
    [
        ("p50", text(counts.latency_us.p50)),
        ("p95", text(counts.latency_us.p95)),
        ("p99", text(counts.latency_us.p99)),
    ]
}

fn chart(
    hours: &AuditStatsJson,
    first_day: UnixMillis,
    path: impl Fn(UnixMillis) -> Option<String>,
) -> Columns {
    let mut days = vec![[0u64; 3]; DAYS as usize];
    for group in &hours.groups {
        let hour = group.group.first().and_then(Option::as_deref).and_then(parse_time);
        let place = hour.and_then(|hour| usize::try_from(hour.0.checked_sub(first_day.0)? / DAY_MS).ok());
        let Some(day) = place.and_then(|place| days.get_mut(place)) else { continue };
        let StatsCountsJson { calls, client_errors, server_errors, grpc_errors, .. } = group.counts;
        let failures = server_errors + grpc_errors;
        let parts = [calls.saturating_sub(client_errors + failures), client_errors, failures];
        for (sum, part) in day.iter_mut().zip(parts) {
            *sum += part;
        }
    }
    let columns = days.iter().enumerate().map(|(place, values)| {
        let day = UnixMillis(first_day.0 + place as u64 * DAY_MS);
        Column {
            label: format_time(day).get(..10).unwrap_or_default().to_owned(),
            values: values.to_vec(),
            path: path(day).filter(|_| values.iter().any(|value| *value > 0)),
        }
    });
    Columns {
        title: "Calls in the last 30 days, by status".to_owned(),
        by: "Day (UTC)",
        series: vec![
            Series { name: "OK", pattern: "good" },
            Series { name: "4xx", pattern: "warn" },
            Series { name: "5xx and gRPC errors", pattern: "bad" },
        ],
        columns: columns.collect(),
    }
}

/// The note of refused calls, if there are any.
fn refused(calls: u64) -> Option<String> {
    (calls > 0).then(|| format!("{} refused", Count(calls)))
}

fn endpoints(newest: &KeyUseJson, audit: &impl Fn(&str) -> Option<String>) -> Ranking {
    let line = |used: &EndpointUseJson| RankingLine {
        label: format!("{} {}", used.method, used.endpoint.as_deref().unwrap_or("no route")),
        value: used.calls,
        note: refused(used.refused),
        path: used.endpoint.as_deref().and_then(|endpoint| {
            audit(&format!("{}{}", encoded("endpoint", endpoint), encoded("method", &used.method)))
        }),
    };
    let lines = newest.endpoints.iter().take(RANKED).map(line).collect();
    Ranking { title: "Calls by endpoint", by: "Endpoint", lines }
}

fn addresses(newest: &KeyUseJson, audit: &impl Fn(&str) -> Option<String>) -> Ranking {
    let line = |used: &AddressUseJson| RankingLine {
        label: used.address.to_string(),
        value: used.calls,
        note: if used.new { Some("new today".to_owned()) } else { refused(used.refused) },
        path: audit(&encoded("ip", &used.address.to_string())),
    };
    let lines = newest.addresses.iter().take(RANKED).map(line).collect();
    Ranking { title: "Calls by IP address", by: "IP address", lines }
}

// === impl Call ===

impl Call {
    fn new(call: AuditEntryJson, layout: &Layout) -> Self {
        Self {
            time: At(call.time.0),
            shown_at: layout.can_open("/audit").then(|| format!("/audit/{}", call.id)),
            method: call.method,
            path: call.path,
            status: call.status,
            reason: call.reason,
            is_allowed: call.decision == "allowed",
            latency: Micros(call.latency_us).to_string(),
            address: call.source_ip.map(|address| address.to_string()).unwrap_or_default(),
        }
    }
}

// === impl Change ===

impl From<AdminEventJson> for Change {
    fn from(event: AdminEventJson) -> Self {
        // The page already shows the fields of a new key.
        let before = event.before.as_ref();
        let changes = before.map(|before| changes(Some(before), event.after.as_ref())).unwrap_or_default();
        Self { time: At(event.time.0), by: event.principal.name.clone(), action: event.action, changes }
    }
}
