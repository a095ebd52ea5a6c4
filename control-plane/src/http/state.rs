//! The state that handlers extract their slices from.

use std::sync::Arc;

use axum::extract::FromRef;

use super::pages::enforcement_watch::EnforcementWatch;
use crate::service::app::App;
use crate::service::keys::Keys;
use crate::service::leaks::Leaks;
use crate::service::policy::Policies;

/// The state of the router. Handlers take slices of it, such as `State<Arc<Keys>>`.
#[derive(Clone)]
pub(super) struct AppState(pub(super) Arc<App>);

impl FromRef<AppState> for Arc<App> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(app)
    }
}

impl FromRef<AppState> for Arc<Keys> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.keys)
    }
}

impl FromRef<AppState> for Arc<EnforcementWatch> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.enforcement_watch)
    }
}

impl FromRef<AppState> for Arc<Leaks> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.leaks)
    }
}

impl FromRef<AppState> for Arc<Policies> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.policies)
    }
}
