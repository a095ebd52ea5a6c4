//! The state that handlers extract their slices from.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::service::app::App;
use crate::service::sessions::Sessions;
use crate::service::tokens::Tokens;

/// The state of the router. Handlers take slices of it, such as `State<Arc<Tokens>>`.
#[derive(Clone)]
pub(super) struct AppState(pub(super) Arc<App>);

impl FromRef<AppState> for Arc<App> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(app)
    }
}

impl FromRef<AppState> for Arc<Tokens> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.tokens)
    }
}

impl FromRef<AppState> for Arc<Sessions> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.sessions)
    }
}
