//! `GET /anomalies`: anomalies with their evidence, a recommendation, and a link to their calls.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::browser_session::BrowserSession;
use crate::extract::StrictQuery;
use crate::format::{Ago, Count, Moment};
use crate::layout::Layout;
use crate::list_query::{page_request, path_with_query};
use crate::page::{Page, PageResult};
use crate::time_field::to_instant;
use omniflow_api_types::anomaly::AnomalyJson;
use omniflow_api_types::parameters::{AnomalyParameters, InvalidQuery};
use omniflow_domain::anomaly::{AnomalyFilter, AnomalyKind};
use omniflow_service::anomalies::Anomalies;

/// Anomalies per page.
const PAGE_SIZE: usize = 25;

/// The query string. Every parameter is optional.
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
    anomalies: Vec<AnomalyView>,
    next: Option<String>,
}

/// An anomaly, formatted for display.
pub(super) struct AnomalyView {
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
    State(anomalies): State<Arc<Anomalies>>,
    browser: BrowserSession,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let page = anomalies.list(query.to_filter()?, page_request(PAGE_SIZE, &query.cursor)?).await?;
    let kinds =
        [("", "All")].into_iter().chain(AnomalyKind::ALL.map(|kind| (kind.as_str(), label(kind.as_str()))));
    let kinds = kinds.map(|(kind, label)| {
        (kind, label, Query { kind: kind.to_owned(), cursor: String::new(), ..query.clone() }.path())
    });
    Ok(Page(AnomaliesPage {
        layout: browser.layout("Anomalies"),
        kinds: kinds.collect(),
        anomalies: page
            .items
            .into_iter()
            .map(|found| AnomalyView::new(found.into(), browser.now()))
            .collect(),
        next: page.next_cursor.map(|cursor| Query { cursor, ..query.clone() }.path()),
        query,
    })
    .into_response())
}

/// The label of a kind of anomaly.
pub(super) fn label(kind: &str) -> &'static str {
    match kind {
        "volume_spike" => "Volume spike",
        "new_network" => "New network",
        "error_run" => "Repeated errors",
        "many_places" => "Many networks at once",
        "used_after_end" => "Used after expiry or revocation",
        _ => "Anomaly",
    }
}

fn advice(kind: &str) -> &'static str {
    match kind {
        "volume_spike" => {
            "Ask the owner of the key whether a new job was started or is out of control. If no one can explain the calls, treat the key as leaked. A lower limit on the key caps the next spike."
        }
        "new_network" => {
            "Ask the owner of the key whether they moved or added a machine. If not, treat the key as leaked. An IP \
             allowlist on the key refuses calls from other networks."
        }
        "error_run" => {
            "Check the paths: a scan for endpoints looks different from an outdated client. Contact the owner of the key, or remove the affected scope."
        }
        "many_places" => {
            "The key is shared or has leaked. Ask the owner of the key, create a separate key for each location, and rotate this one."
        }
        "used_after_end" => {
            "An expired or revoked secret is still in use: a client was not updated, or someone has a copy. These calls were refused. Let the owner of the key know which version is still in use."
        }
        _ => "Check the calls.",
    }
}

// === impl Query ===

impl Query {
    fn to_filter(&self) -> Result<AnomalyFilter, InvalidQuery> {
        let parameters = AnomalyParameters {
            key: Some(self.key.clone()),
            kind: Some(self.kind.clone()),
            from: Some(to_instant(&self.from)),
            to: Some(to_instant(&self.to)),
        };
        parameters.parse()
    }

    fn path(&self) -> String {
        let Self { key, kind, from, to, cursor } = self;
        let parameters =
            [("key", key.as_str()), ("kind", kind), ("from", from), ("to", to), ("cursor", cursor)];
        path_with_query("/anomalies", parameters)
    }
}

// === impl AnomalyView ===

impl AnomalyView {
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
