//! The state that handlers extract their slices from.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::service::admin_log::AdminLog;
use crate::service::app::App;
use crate::service::audit::RequestLog;
use crate::service::gateway_protocol::GatewayProtocol;
use crate::service::gateways::Gateways;
use crate::service::monitoring::Monitoring;

/// The state of the router. Handlers take slices of it, such as `State<Arc<RequestLog>>`.
#[derive(Clone)]
pub(super) struct AppState(pub(super) Arc<App>);

impl FromRef<AppState> for Arc<App> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(app)
    }
}

impl FromRef<AppState> for Arc<RequestLog> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.request_log)
    }
}

impl FromRef<AppState> for Arc<AdminLog> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.admin_log)
    }
}

impl FromRef<AppState> for Arc<Gateways> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.gateways)
    }
}

impl FromRef<AppState> for Arc<GatewayProtocol> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.gateway_protocol)
    }
}

impl FromRef<AppState> for Arc<Monitoring> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(&app.monitoring)
    }
}
