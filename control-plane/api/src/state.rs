//! The state of the router, and the parts of it that handlers extract.

use std::sync::Arc;

use super::metrics::cache::ScrapeCache;
use axum::body::Bytes;
use axum::extract::FromRef;
use omniflow_domain::clock::Clock;
use omniflow_net::connection_table::ConnectionTable;
use omniflow_net::tls::CertificateExpiry;
use omniflow_service::admin_log::AdminLog;
use omniflow_service::anomalies::Anomalies;
use omniflow_service::audit::RequestLog;
use omniflow_service::authentication::Authentication;
use omniflow_service::gateway_protocol::GatewayProtocol;
use omniflow_service::gateways::Gateways;
use omniflow_service::keys::Keys;
use omniflow_service::leaks::Leaks;
use omniflow_service::monitoring::Monitoring;
use omniflow_service::policy::Policies;
use omniflow_service::tokens::Tokens;
use prometheus_client::registry::Registry;

/// The OpenAPI document in JSON.
#[derive(Clone)]
pub(super) struct Document(pub(super) Bytes);

/// The dependencies of the API: use cases, authentication and open connections.
pub struct Api {
    /// Authenticates tokens.
    pub authentication: Arc<Authentication>,
    /// Open connections.
    pub connection_table: Arc<ConnectionTable>,
    /// When the certificate in use expires.
    pub certificate_expiry: CertificateExpiry,
    /// The wall clock.
    pub clock: Clock,
    /// The use cases of keys.
    pub keys: Arc<Keys>,
    /// The use cases of tokens.
    pub tokens: Arc<Tokens>,
    /// The use cases of the policy.
    pub policies: Arc<Policies>,
    /// The use cases of leaked secrets.
    pub leaks: Arc<Leaks>,
    /// Reads the request log.
    pub request_log: Arc<RequestLog>,
    /// Reads the anomalies.
    pub anomalies: Arc<Anomalies>,
    /// Reads the admin log.
    pub admin_log: Arc<AdminLog>,
    /// Reads the state of the gateways.
    pub gateways: Arc<Gateways>,
    /// Serves gateways.
    pub gateway_protocol: Arc<GatewayProtocol>,
    /// Reads values that are not in the registry of metrics.
    pub monitoring: Arc<Monitoring>,
    /// The registry of the histograms that components record into.
    pub metrics: Arc<Registry>,
}

/// The state of the router. Handlers extract parts of it, such as `State<Arc<RequestLog>>`.
#[derive(Clone)]
pub(super) struct AppState {
    /// The use cases.
    pub(super) api: Arc<Api>,
    /// The OpenAPI document of the router.
    pub(super) document: Document,
    /// The last texts of `GET /metrics`.
    pub(super) scrapes: Arc<ScrapeCache>,
}

impl FromRef<AppState> for Arc<Api> {
    fn from_ref(state: &AppState) -> Self {
        Self::clone(&state.api)
    }
}

impl FromRef<AppState> for Arc<ScrapeCache> {
    fn from_ref(state: &AppState) -> Self {
        Self::clone(&state.scrapes)
    }
}

impl FromRef<AppState> for Document {
    fn from_ref(state: &AppState) -> Self {
        state.document.clone()
    }
}

/// Lets handlers extract a field of the state by its type.
macro_rules! slices {
    ($($field:ident: $slice:ty,)*) => {
        $(impl FromRef<AppState> for Arc<$slice> {
            fn from_ref(state: &AppState) -> Self {
                Self::clone(&state.api.$field)
            }
        })*
    };
}

slices! {
    admin_log: AdminLog,
    anomalies: Anomalies,
    gateway_protocol: GatewayProtocol,
    gateways: Gateways,
    keys: Keys,
    leaks: Leaks,
    monitoring: Monitoring,
    policies: Policies,
    request_log: RequestLog,
    tokens: Tokens,
}
