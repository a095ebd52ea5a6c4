//! The list of gateways.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;
use omniflow_policy::time::UnixMillis;
use serde::Deserialize;

use crate::browser_session::BrowserSession;
use crate::extract::StrictQuery;
use crate::format::{Ago, At, Count};
use crate::layout::Layout;
use crate::list_query::{page_request, path_with_query};
use crate::page::{Page, PageResult};
use omniflow_domain::gateway::{GatewayState, GatewayStatus};
use omniflow_domain::time::DAY_MS;
use omniflow_service::gateways::{GatewayPage, Gateways};

/// Gateways per page.
const PAGE_SIZE: usize = 50;
/// Minimum clock skew in milliseconds that is shown: keys expire by the gateway's clock.
const MIN_SHOWN_SKEW_MS: u64 = 2_000;

/// How long before the end of a gateway's token a warning is shown, in milliseconds.
const TOKEN_WARNING_MS: u64 = 7 * DAY_MS;

/// The query string.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    cursor: String,
}

#[derive(Template)]
#[template(path = "gateways/list.html")]
struct GatewaysPage {
    layout: Layout,
    version: u64,
    published_at: At,
    in_step: usize,
    rows: Vec<Row>,
    is_first: bool,
    next: Option<String>,
}

/// A gateway in the list.
struct Row {
    remove_path: String,
    name: String,
    incarnation: String,
    state: (&'static str, &'static str),
    /// Reason why it is not in step.
    behind: Option<String>,
    version: u64,
    workers: Vec<(String, u64, bool)>,
    workers_in_step: usize,
    filter: Option<String>,
    first: Ago,
    last: Ago,
    clock: Option<String>,
    /// When its token expires, if that is soon.
    token: Option<Ago>,
}

pub(super) async fn show(
    State(gateways): State<Arc<Gateways>>,
    browser: BrowserSession,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let request = page_request(PAGE_SIZE, &query.cursor)?;
    let GatewayPage { page, version, published_at } = gateways.list(request)?;
    let next = page.next_cursor.and_then(|cursor| serde_urlencoded::to_string([("cursor", cursor)]).ok());
    let in_step = page.items.iter().filter(|gateway| gateway.state == GatewayState::InStep).count();
    let rows: Vec<Row> =
        page.items.into_iter().map(|gateway| Row::new(gateway, &gateways, version, browser.now())).collect();
    Ok(Page(GatewaysPage {
        layout: browser.layout("Gateways"),
        version,
        published_at: At(published_at),
        in_step,
        rows,
        is_first: query.cursor.is_empty(),
        next: next.map(|query| format!("/gateways?{query}")),
    })
    .into_response())
}

// === impl Row ===

impl Row {
    fn new(gateway: GatewayStatus, gateways: &Gateways, published: u64, now: UnixMillis) -> Self {
        let oldest = gateway.workers.values().copied().min().unwrap_or(gateway.version);
        let state = match gateway.state {
            GatewayState::InStep => ("good", "in step"),
            GatewayState::Behind => ("warn", "behind"),
            GatewayState::Ended => ("", gateway.state.describe()),
            GatewayState::Ahead
            | GatewayState::Silent
            | GatewayState::TokenExpired
            | GatewayState::TokenRevoked => ("bad", gateway.state.describe()),
        };
        let has_reason = matches!(gateway.state, GatewayState::Behind | GatewayState::Silent);
        // It is only known from an earlier process of the control plane.
        let is_remembered = gateway.filter_version.is_none() && gateway.workers.is_empty();
        let behind = has_reason.then(|| match oldest {
            _ if is_remembered => "not seen since the control plane started".to_owned(),
            0 => "no snapshot yet, so it refuses every call".to_owned(),
            oldest if oldest >= published => "not seen recently".to_owned(),
            oldest => match gateways.outdated_for(oldest) {
                Some(time) => {
                    format!("{} behind", duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
                }
                None => "enforces an older version".to_owned(),
            },
        });
        let workers: Vec<(String, u64, bool)> = gateway
            .workers
            .into_iter()
            .map(|(id, version)| (id.into(), version, version >= published))
            .collect();
        Self {
            remove_path: path_with_query("/gateways/remove", [("id", gateway.id.to_string().as_str())]),
            name: gateway.id.gateway,
            incarnation: gateway.id.incarnation.into(),
            state,
            behind,
            version: gateway.version,
            workers_in_step: workers.iter().filter(|(_, _, is_in_step)| *is_in_step).count(),
            workers,
            filter: gateway.filter_version,
            token: gateway
                .token_expires_at
                .filter(|end| *end > now && end.0 <= now.0.saturating_add(TOKEN_WARNING_MS))
                .map(|time| Ago { time, now }),
            first: Ago { time: gateway.first_seen_at, now },
            last: Ago { time: gateway.last_seen_at, now },
            clock: gateway.clock_skew_ms.filter(|skew| skew.unsigned_abs() >= MIN_SHOWN_SKEW_MS).map(
                |skew| {
                    let direction = if skew > 0 { "ahead" } else { "behind" };
                    format!("clock {} {direction}", duration(skew.unsigned_abs()))
                },
            ),
        }
    }

    fn workers_count(&self) -> Count {
        Count(self.workers.len() as u64)
    }
}

/// Formats a duration in milliseconds with the unit that suits its size.
fn duration(ms: u64) -> String {
    match ms {
        ms if ms < 1_000 => format!("{ms} ms"),
        ms if ms < 120_000 => format!("{} s", ms / 1_000),
        ms if ms < 7_200_000 => format!("{} min", ms / 60_000),
        ms if ms < 172_800_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} days", ms / DAY_MS),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{Method, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::testing::Browser;
    use omniflow_test_server::{TestServer, request};

    #[tokio::test]
    async fn gateways_are_listed_with_their_state() {
        let server = TestServer::new().await;
        let gateway = server.token("gateway").await;
        let mut browser = Browser::signed_in(&server, &server.owner).await;
        assert!(browser.page("/gateways").await.contains("No gateways yet"));
        let version = server.get("/v1/gateways").await.json()["version"].as_u64().unwrap();
        let installation = server.app.publisher.installation.id;
        let poll = async |name: &str, version: u64, clock: u64| {
            let body = json!({
                "gateway": name, "incarnation": "9f3c2a7d10b4e685", "filter_version": "1.2.3", "snapshot_format": 1,
                "installation": installation, "version": version, "wait_ms": 0, "clock": clock,
                "vms": [{"id": "41d0c7a9e2b85f36", "version": version}],
            });
            let answer = server.call(request(Method::POST, "/gateway/v1/poll", &gateway, Some(body))).await;
            assert!(answer.status.is_success(), "{:?}", answer.status);
        };
        let now = omniflow_test_server::START;
        poll("edge", version, now + 9_000).await;
        poll("<b>old", version - 90_000, now).await;
        let page = browser.page("/gateways").await;
        for part in
            ["1 of 2", "in step</span>", "clock 9 s ahead", "an older version", "&#60;b&#62;old", "1.2.3"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
        server.key("next").await;
        let page = browser.page("/gateways").await;
        assert!(page.contains("0 of 2") && page.contains(" ms behind"), "{page}");
        poll("edge", server.app.publisher.publication.version().unwrap(), now).await;
        server.pass(Duration::from_secs(120));
        let page = browser.page("/gateways").await;
        assert!(page.contains("0 of 2") && page.contains("not seen recently"), "{page}");
        assert_eq!(browser.open("/gateways?cursor=%00").await.status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn version_is_not_taken_for_a_time() {
        let server = TestServer::new().await;
        // As after a restore: more than a day above the clock.
        let ahead = omniflow_test_server::START + 2 * DAY_MS;
        let mut transaction = server.app.store.begin().await.unwrap();
        let published_at = UnixMillis(omniflow_test_server::START - 3_600_000);
        transaction.set_snapshot_version(ahead, published_at).await.unwrap();
        transaction.commit().await.unwrap();
        let server = server.restart().await;
        let gateway = server.token("gateway").await;
        let body = json!({
            "gateway": "edge", "incarnation": "9f3c2a7d10b4e685", "filter_version": "1.2.3", "snapshot_format": 1,
            "installation": server.app.publisher.installation.id, "version": ahead - 2, "wait_ms": 0,
            "clock": omniflow_test_server::START, "vms": [{"id": "41d0c7a9e2b85f36", "version": ahead - 2}],
        });
        let answer = server.call(request(Method::POST, "/gateway/v1/poll", &gateway, Some(body))).await;
        assert!(answer.status.is_success(), "{answer:?}");
        let page = Browser::signed_in(&server, &server.owner).await.page("/gateways").await;
        assert!(
            page.contains("2027-01-15 07:00") || page.contains("2027-01-15T07:00"),
            "when it was published: {page}"
        );
        assert!(page.contains("an older version") && !page.contains("ms behind"), "{page}");
    }

    #[test]
    fn durations_have_a_suitable_unit() {
        let texts = [999, 90_000, 3_600_000, 86_400_000, 259_200_000].map(duration);
        assert_eq!(texts, ["999 ms", "90 s", "60 min", "24 h", "3 days"]);
    }
}
