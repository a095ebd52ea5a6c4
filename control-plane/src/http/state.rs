//! The state that handlers extract their slices from.

use std::sync::Arc;

use axum::extract::FromRef;

use super::pages::enforcement_watch::EnforcementWatch;
use crate::service::admin_log::AdminLog;
use crate::service::app::App;
use crate::service::audit::RequestLog;
use crate::service::gateway_protocol::GatewayProtocol;
use crate::service::gateways::Gateways;
use crate::service::keys::Keys;
use crate::service::leaks::Leaks;
use crate::service::monitoring::Monitoring;
use crate::service::policy::Policies;
use crate::service::sessions::Sessions;
use crate::service::tokens::Tokens;

/// The state of the router. Handlers take slices of it, such as `State<Arc<RequestLog>>`.
#[derive(Clone)]
pub(super) struct AppState(pub(super) Arc<App>);

impl FromRef<AppState> for Arc<App> {
    fn from_ref(AppState(app): &AppState) -> Self {
        Self::clone(app)
    }
}

/// Lets handlers extract a field of the state by its type.
macro_rules! slices {
    ($($field:ident: $slice:ty,)*) => {
        $(impl FromRef<AppState> for Arc<$slice> {
            fn from_ref(AppState(app): &AppState) -> Self {
                Self::clone(&app.$field)
            }
        })*
    };
}

slices! {
    admin_log: AdminLog,
    enforcement_watch: EnforcementWatch,
    keys: Keys,
    leaks: Leaks,
    policies: Policies,
    gateway_protocol: GatewayProtocol,
    gateways: Gateways,
    monitoring: Monitoring,
    request_log: RequestLog,
    sessions: Sessions,
    tokens: Tokens,
}
