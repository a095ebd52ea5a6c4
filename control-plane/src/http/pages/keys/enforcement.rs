//! How far a revocation is in force: told at once, and as it arrives.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::http::keys::find;
use crate::http::pages::extract::Segments;
use crate::http::pages::followed::followed;
use crate::http::pages::frame::Frame;
use crate::http::pages::in_force::InForce;
use crate::http::pages::live::parts;
use crate::http::pages::refusal::{Page, PageResult};
use crate::http::pages::show::Badge;
use crate::http::pages::visitor::Visitor;
use crate::service::app::App;
use omniflow_api_types::gateway::EnforcementJson;
use omniflow_domain::gateway::{Enforcement, MAX_WAIT};

#[derive(Template)]
#[template(path = "keys/enforcement.html")]
struct EnforcementPage {
    frame: Frame,
    id: String,
    name: String,
    status: Badge,
    version: u64,
    in_force: InForce,
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
        in_force: told(now(&app, version).await),
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
            let is_complete = enforcement.complete;
            let Ok(html) = told(enforcement).render() else { return };
            if !parts.send(&html).await {
                return;
            }
            let goes_on = match &mut progress {
                Some(progress) if !is_complete => progress.changed().await.is_ok(),
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
            () = app.signals.stopped() => {}
        }
    }
}

/// How far it is now: as it was followed, or as gateways say where it was not.
async fn now(app: &App, version: u64) -> Enforcement {
    let last = followed(app, version).and_then(|progress: watch::Receiver<_>| progress.borrow().clone());
    match last {
        Some(enforcement) => enforcement,
        None => app.fleet.enforced(version, &app.publisher.publication, None, Instant::now()).await,
    }
}

fn told(enforcement: Enforcement) -> InForce {
    EnforcementJson::from(enforcement).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use omniflow_domain::key::KeyStatus;

    #[test]
    fn it_goes_on_arriving_until_it_is_in_force_everywhere() {
        for complete in [false, true] {
            let enforcement = Enforcement { complete, version: 9, gateways: Vec::new(), silent: Vec::new() };
            let page = EnforcementPage {
                frame: Frame::sample("ci: in force"),
                id: "7".to_owned(),
                name: "ci".to_owned(),
                status: Badge(KeyStatus::Revoked),
                version: 9,
                in_force: told(enforcement),
            };
            assert_eq!(
                page.render().unwrap().contains("data-live=\"/keys/7/enforcement/9/live\""),
                !complete
            );
        }
    }
}
