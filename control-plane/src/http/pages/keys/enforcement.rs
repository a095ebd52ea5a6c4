//! How far a revocation is in force: told at once, and as it arrives.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use askama::filters::HtmlSafe;
use axum::extract::State;
use axum::response::IntoResponse;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::fleet::{Enforcement, MAX_WAIT};
use crate::http::extract::Segments;
use crate::http::keys::find;
use crate::http::pages::followed::followed;
use crate::http::pages::frame::Frame;
use crate::http::pages::live::parts;
use crate::http::pages::refusal::{Page, PageResult};
use crate::http::pages::show::{At, Badge};
use crate::http::pages::visitor::Visitor;

#[derive(Template)]
#[template(path = "keys/enforcement.html")]
struct EnforcementPage {
    frame: Frame,
    id: String,
    name: String,
    status: Badge,
    version: u64,
    progress: Progress,
}

/// How far it is, as a part of a page.
#[derive(Template)]
#[template(path = "keys/progress.html")]
struct Progress {
    is_complete: bool,
    /// Gateways that enforce it, and all that are live.
    enforced: usize,
    gateways: Vec<GatewayProgress>,
    silent: Vec<(String, At)>,
    /// From the commit until the last gateway had said so, in milliseconds.
    ms: Option<u128>,
}

impl HtmlSafe for Progress {}

struct GatewayProgress {
    id: String,
    enforced_workers: usize,
    workers: usize,
    is_enforced: bool,
    ms: Option<u128>,
}

/// `GET /keys/{id}/enforcement/{version}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Segments((id, version)): Segments<(String, u64)>,
) -> PageResult {
    let key = find(&app, &id).await?;
    let page = EnforcementPage {
        frame: visitor.frame(format!("{}: in force", key.name)),
        id: key.id.to_string(),
        name: key.name.to_string(),
        status: Badge(key.status),
        version,
        progress: Progress::of(&now(&app, version).await),
    };
    Ok(Page(page).into_response())
}

/// `GET /keys/{id}/enforcement/{version}/live`: the same part again whenever a gateway was heard of, until all are there.
pub(super) async fn live(
    State(app): State<Arc<App>>,
    Segments((_, version)): Segments<(String, u64)>,
) -> PageResult {
    Ok(parts(move |mut parts| async move {
        let mut progress = followed(&app, version);
        loop {
            let seen = progress.as_mut().and_then(|progress| progress.borrow_and_update().clone());
            let enforcement = match seen {
                Some(enforcement) => enforcement,
                None => now(&app, version).await,
            };
            let Ok(html) = Progress::of(&enforcement).render() else { return };
            if !parts.send(&html).await {
                return;
            }
            let goes_on = match &mut progress {
                Some(progress) if !enforcement.complete => progress.changed().await.is_ok(),
                _ => false,
            };
            if !goes_on {
                return parts.end().await;
            }
        }
    }))
}

/// Waits until a version is in force everywhere, but not longer than this.
pub(super) async fn until_complete(app: &App, version: u64, longest: Duration) {
    if let Some(mut progress) = followed(app, version) {
        let complete = |progress: &Option<Enforcement>| progress.as_ref().is_some_and(|last| last.complete);
        let waiting = timeout(longest.min(MAX_WAIT), progress.wait_for(complete));
        tokio::select! {
            _ = waiting => {}
            () = app.stopped() => {}
        }
    }
}

/// How far it is now: as it was followed, or as gateways say where it was not.
async fn now(app: &App, version: u64) -> Enforcement {
    let last = followed(app, version).and_then(|progress: watch::Receiver<_>| progress.borrow().clone());
    match last {
        Some(enforcement) => enforcement,
        None => app.fleet.enforced(version, &app.publication, None, Instant::now()).await,
    }
}

// === impl Progress ===

impl Progress {
    fn of(enforcement: &Enforcement) -> Self {
        let gateways: Vec<GatewayProgress> = enforcement
            .gateways
            .iter()
            .map(|gateway| GatewayProgress {
                id: gateway.id.to_string(),
                enforced_workers: gateway.enforced_workers,
                workers: gateway.workers,
                is_enforced: gateway.enforced,
                ms: gateway.after.map(|after| after.as_millis()),
            })
            .collect();
        let times: Option<Vec<u128>> = gateways.iter().map(|gateway| gateway.ms).collect();
        Self {
            is_complete: enforcement.complete,
            enforced: gateways.iter().filter(|gateway| gateway.is_enforced).count(),
            ms: times.and_then(|times| times.into_iter().max()),
            gateways,
            silent: enforcement
                .silent
                .iter()
                .map(|gateway| (gateway.id.to_string(), At(gateway.last_seen_at)))
                .collect(),
        }
    }
}
