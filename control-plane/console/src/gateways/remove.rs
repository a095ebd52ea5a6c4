//! Removal of a gateway that has ended.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use crate::browser_session::BrowserSession;
use crate::extract::{Authenticated, StrictQuery};
use crate::form::{Form, FormError, error_at};
use crate::format::Ago;
use crate::layout::Layout;
use crate::page::{Page, PageResult, error_status};
use omniflow_domain::error::Error;
use omniflow_service::gateways::Gateways;

/// Which gateway to remove.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveQuery {
    id: String,
}

#[derive(Template)]
#[template(path = "gateways/remove.html")]
struct RemovePage {
    layout: Layout,
    id: String,
    /// What to type to confirm.
    name: String,
    state: &'static str,
    /// Whether it is connected or was seen within its lease.
    is_live: bool,
    last: Ago,
    typed: String,
    error: Option<FormError>,
}

pub(super) async fn show(
    State(gateways): State<Arc<Gateways>>,
    browser: BrowserSession,
    StrictQuery(query): StrictQuery<RemoveQuery>,
) -> PageResult {
    remove_page(&gateways, &browser, &query.id, "", None)
}

pub(super) async fn submit(
    State(gateways): State<Arc<Gateways>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    form: Form,
) -> PageResult {
    let (id, typed) = (form.text("id"), form.text("name"));
    let name = gateways.find(id)?.id.gateway;
    if typed != name {
        let problem =
            Error::invalid_field("/name", format!("the name does not match: type {name} to confirm"));
        return remove_page(&gateways, &browser, id, typed, Some(problem));
    }
    gateways.remove(&principal, id).await?;
    Ok(Redirect::to("/gateways").into_response())
}

fn remove_page(
    gateways: &Gateways,
    browser: &BrowserSession,
    id: &str,
    typed: &str,
    problem: Option<Error>,
) -> PageResult {
    let gateway = gateways.find(id)?;
    let status = problem.as_ref().map_or(StatusCode::OK, |problem| error_status(problem.code()));
    let page = RemovePage {
        layout: browser.layout(format!("Remove {}", gateway.id.gateway)),
        id: gateway.id.to_string(),
        name: gateway.id.gateway,
        state: gateway.state.describe(),
        is_live: gateway.state.is_live(),
        last: Ago { time: gateway.last_seen_at, now: browser.now() },
        typed: typed.to_owned(),
        error: problem.map(|problem| FormError::new(&problem, &[("/name", "name")])),
    };
    Ok((status, Page(page)).into_response())
}

// === impl RemovePage ===

impl RemovePage {
    /// The error at a field.
    fn error_at(&self, field: &str) -> Option<&str> {
        error_at(self.error.as_slice(), field)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use serde_json::json;

    use super::*;
    use crate::testing::{Browser, location, text};
    use omniflow_test_server::{TestServer, request};

    #[tokio::test]
    async fn ended_gateway_is_removed_after_confirmation() {
        let server = TestServer::new().await;
        let gateway = server.token("gateway").await;
        let body = json!({
            "gateway": "edge/<b>", "incarnation": "9f3c2a7d10b4e685", "filter_version": "1.2.3", "snapshot_format": 1,
            "installation": null, "version": 0, "wait_ms": 0, "clock": omniflow_test_server::START, "vms": [],
        });
        server.call(request(Method::POST, "/gateway/v1/poll", &gateway, Some(body))).await;
        let mut auditor = Browser::signed_in(&server, &server.token("auditor").await).await;
        assert!(!auditor.page("/gateways").await.contains("/gateways/remove"));

        let mut browser = Browser::signed_in(&server, &server.owner).await;
        let path = "/gateways/remove?id=edge%2F%3Cb%3E%2F9f3c2a7d10b4e685";
        assert!(browser.page("/gateways").await.contains(&format!("href=\"{path}\"")));
        let page = browser.page(path).await;
        assert!(
            page.contains("This gateway is live") && page.contains("edge/&#60;b&#62;/9f3c2a7d10b4e685"),
            "{page}"
        );
        let id = ("id", "edge/<b>/9f3c2a7d10b4e685");
        let wrong = browser.submit("/gateways/remove", &[id, ("name", "edge")]).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(text(&wrong).contains("The name does not match"), "{}", text(&wrong));
        let removed = browser.submit("/gateways/remove", &[id, ("name", "edge/<b>")]).await;
        assert_eq!((removed.status, location(&removed)), (StatusCode::SEE_OTHER, "/gateways"));
        assert!(browser.page("/gateways").await.contains("No gateways yet"));
        assert!(browser.page("/admin-log").await.contains("removed a gateway"));
        assert_eq!(browser.open(path).await.status, StatusCode::NOT_FOUND);
    }
}
