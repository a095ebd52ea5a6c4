//! `GET /anomalies`: anomalies with their evidence, what to do about each, and the way to its calls.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::audit::instant;
use crate::browser_session::BrowserSession;
use crate::extract::StrictQuery;
use crate::format::{Ago, Count, Moment};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use omniflow_api_types::anomaly::AnomalyJson;
use omniflow_domain::anomaly::AnomalyKind;
use omniflow_service::audit::RequestLog;
use omniflow_service::audit::anomalies::AnomalyQuery;
use omniflow_service::query::PageRequest;

/// Anomalies of one page.
const PAGE_SIZE: &str = "25";

/// What the address says. All of it may be left out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    key: String,
    kind: String,
    from: String,
    to: String,
    cursor: String,
}

#[derive(Template)]
#[template(path = "anomalies/list.html")]
struct AnomaliesPage {
    layout: Layout,
    query: Query,
    kinds: Vec<(&'static str, &'static str, String)>,
    anomalies: Vec<Shown>,
    next: Option<String>,
}

/// An anomaly as its page shows it.
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) summary: String,
    pub(super) key: String,
    pub(super) key_path: String,
    pub(super) first: Moment,
    pub(super) last: Moment,
    pub(super) ago: Ago,
    pub(super) observed: Count,
    pub(super) expected: Option<String>,
    pub(super) bound: Count,
    pub(super) history_days: Option<u64>,
    pub(super) networks: Vec<String>,
    pub(super) advice: &'static str,
    pub(super) calls: String,
    pub(super) may_leak: bool,
}

pub(super) async fn show(
    State(log): State<Arc<RequestLog>>,
    browser: BrowserSession,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let page = log.anomalies(query.to_filter(), query.to_page()).await?;
    let kinds =
        [("", "All")].into_iter().chain(AnomalyKind::ALL.map(|kind| (kind.as_str(), label(kind.as_str()))));
    let kinds = kinds.map(|(kind, label)| {
        (kind, label, Query { kind: kind.to_owned(), cursor: String::new(), ..query.clone() }.path())
    });
    Ok(Page(AnomaliesPage {
        layout: browser.layout("Anomalies"),
        kinds: kinds.collect(),
        anomalies: page.items.into_iter().map(|found| Shown::new(found.into(), browser.now())).collect(),
        next: page.next_cursor.map(|cursor| Query { cursor, ..query.clone() }.path()),
        query,
    })
    .into_response())
}

/// A kind of anomaly in words.
pub(super) fn label(kind: &str) -> &'static str {
    match kind {
        "volume_spike" => "Many more calls",
        "new_network" => "New network",
        "error_run" => "Run of errors",
        "many_places" => "Many places at once",
        "used_after_end" => "Used after its end",
        _ => "Anomaly",
    }
}

fn advice(kind: &str) -> &'static str {
    match kind {
        "volume_spike" => {
            "Ask the key's holder whether a job was started or has gone wild. If nobody knows of it, treat the key as \
             leaked. A limit on the key bounds what the next spike costs."
        }
        "new_network" => {
            "Ask the key's holder whether they moved or added a machine. If not, treat the key as leaked. An allowlist of \
             networks on the key keeps others out."
        }
        "error_run" => {
            "Check the paths: somebody probing for endpoints looks different from a client that is out of date. \
             Tell the holder, or take away the scope that is being probed."
        }
        "many_places" => {
            "One key in many hands, or a leaked one. Ask the holder; give each place a key of its own, and rotate this one."
        }
        "used_after_end" => {
            "A secret that should be gone is still in use: a client was not updated, or somebody has a copy. These calls \
             were refused. Tell the holder which version it is."
        }
        _ => "Check the calls.",
    }
}

// === impl Query ===

impl Query {
    fn to_filter(&self) -> AnomalyQuery {
        AnomalyQuery {
            key: Some(self.key.clone()),
            kind: Some(self.kind.clone()),
            from: Some(instant(&self.from)),
            to: Some(instant(&self.to)),
        }
    }

    fn to_page(&self) -> PageRequest {
        PageRequest { limit: Some(PAGE_SIZE.to_owned()), cursor: Some(self.cursor.clone()) }
    }

    fn path(&self) -> String {
        let fields = [
            ("key", &self.key),
            ("kind", &self.kind),
            ("from", &self.from),
            ("to", &self.to),
            ("cursor", &self.cursor),
        ];
        let stated: Vec<_> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        match serde_urlencoded::to_string(stated) {
            Ok(query) if !query.is_empty() => format!("/anomalies?{query}"),
            _ => "/anomalies".to_owned(),
        }
    }
}

// === impl Shown ===

impl Shown {
    pub(super) fn new(found: AnomalyJson, now: UnixMillis) -> Self {
        let evidence = found.evidence;
        Self {
            id: found.id,
            kind: label(&found.kind),
            summary: found.summary,
            key_path: format!("/keys/{}", found.key_id),
            key: found.key_name,
            first: Moment(found.first_seen.0),
            last: Moment(found.last_seen.0),
            ago: Ago { time: found.last_seen.0, now },
            observed: Count(evidence.observed),
            expected: evidence.expected.map(|expected| expected.to_string()),
            bound: Count(evidence.bound),
            history_days: evidence.history_days,
            networks: evidence.networks.iter().map(|network| network.net().to_string()).collect(),
            advice: advice(&found.kind),
            calls: found.query.trim_start_matches("/v1").to_owned(),
            may_leak: ["volume_spike", "new_network", "many_places"].contains(&&*found.kind),
        }
    }
}
