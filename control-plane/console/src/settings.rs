//! `GET /settings`: the effective settings of this installation with their sources. They are passed to `omf serve` and
//! cannot be changed here.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;

use super::browser_session::BrowserSession;
use super::extract::Authenticated;
use super::format::{Ago, At, Until};
use super::layout::Layout;
use super::page::{Page, PageResult};
use super::routes::{PageRoutes, READ};
use super::state::EffectiveSetting;
use crate::state::Console;
use omniflow_domain::session::{IDLE_TIME, WHOLE_TIME};
use omniflow_policy::time::UnixMillis;

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes.page("/settings", READ, show)
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    layout: Layout,
    installation: String,
    key_prefix: String,
    release: &'static str,
    snapshot: u64,
    policy_version: u64,
    settings: Vec<EffectiveSetting>,
    token: String,
    sessions: i64,
    began: Option<Ago>,
    ends: Option<Until>,
    idle_minutes: u64,
    now: At,
}

async fn show(
    State(app): State<Arc<Console>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
) -> PageResult {
    let now = browser.now();
    let status = app.policies.installation_status()?;
    let whole = u64::try_from(WHOLE_TIME.as_millis()).unwrap_or(u64::MAX);
    let end = |began: UnixMillis| UnixMillis(began.0.saturating_add(whole));
    let page = SettingsPage {
        layout: browser.layout("Installation"),
        installation: status.id.to_string(),
        key_prefix: status.key_prefix.as_str().to_owned(),
        release: env!("CARGO_PKG_VERSION"),
        snapshot: status.snapshot_version,
        policy_version: status.policy_version,
        settings: app.console.settings.clone(),
        token: principal.name.to_string(),
        sessions: app.sessions.count(&principal).await?,
        began: browser.session().map(|session| Ago { time: session.created_at, now }),
        ends: browser.session().map(|session| Until { time: end(session.created_at), now }),
        idle_minutes: IDLE_TIME.as_secs() / 60,
        now: At(now),
    };
    Ok(Page(page).into_response())
}
